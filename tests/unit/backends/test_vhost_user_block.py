"""vhost-user-blk against a small back end in another thread, which serves real requests."""

import array
import mmap
import os
import select
import socket
import threading
from struct import pack, unpack

import pytest

from pyrovm.abi import virtio as v
from pyrovm.backends import vhost_user_block as front
from pyrovm.config.drive import DriveConfig
from pyrovm.devices.virtio_block_request import parse_request
from pyrovm.errors import ConfigError, HostError, StateError
from pyrovm.host.eventfd import EventFd
from pyrovm.host.mapping import memfd
from pyrovm.machine.factory_vhost_user import make_vhost_user_block
from pyrovm.memory.guest_memory import GuestMemory, Region
from pyrovm.virtio.mmio import VirtioMmio
from pyrovm.virtio.queue import Queue
from tests.fakes.driver import Driver, DriverQueue, FakeLoop

SECTORS = 32
ALL = 1 << 30 | front.WANTED | 1 << v.VIRTIO_BLK_F_FLUSH | 1 << 2 | 1 << 12
RAM = 4 << 20


class BackEnd:
    """Serves one connection; ``seen`` are the requests in order, ``disk`` the bytes."""

    def __init__(self, path, *, features=ALL, protocol=1 << 9 | 1 << 3, answers=None):
        self.features, self.protocol = features, protocol
        self.answers = answers or {}  # request -> raw bytes to send instead of the right answer
        self.config = pack("<Q", SECTORS) + bytes(52)
        self.disk = bytearray(os.urandom(SECTORS * 512))
        self.seen = []
        self.agreed = self.agreed_protocol = 0
        self.enabled = False
        self.maps = []
        self.queue = Queue(0, 256)
        self.kick = self.call = None
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        self.peer, _ = self.listener.accept()
        self.peer.settimeout(20)
        try:
            while True:
                ready = [self.peer] + ([self.kick] if self.enabled else [])
                for source in select.select(ready, [], [], 20)[0]:
                    if source is self.peer:
                        self.message()
                    else:
                        os.read(self.kick, 8)
                        self.serve()
        except (EOFError, ConnectionError):
            pass
        finally:
            self.peer.close()
            self.listener.close()

    def message(self):
        fds = array.array("i")
        header, ancillary, _, _ = self.peer.recvmsg(12, socket.CMSG_SPACE(8 * 4))
        for _, _, data in ancillary:
            fds.frombytes(data)
        if len(header) < 12:
            raise EOFError
        request, flags, size = unpack("=III", header)
        payload = b""
        while len(payload) < size:
            payload += self.peer.recv(size - len(payload))
        self.seen.append(request)
        if request in self.answers:
            self.peer.sendall(self.answers[request])
            return
        answer = self.handle(request, payload, list(fds))
        if answer is None and flags & front.NEED_REPLY:
            answer = pack("=Q", 0)
        if answer is not None:
            self.peer.sendall(pack("=III", request, 5, len(answer)) + answer)

    def handle(self, request, payload, fds):
        if request == front.GET_FEATURES:
            return pack("=Q", self.features)
        if request == front.GET_PROTOCOL_FEATURES:
            return pack("=Q", self.protocol)
        if request == front.SET_PROTOCOL_FEATURES:
            (self.agreed_protocol,) = unpack("=Q", payload)
        elif request == front.SET_FEATURES:
            (self.agreed,) = unpack("=Q", payload)
        elif request == front.GET_CONFIG:
            offset, size, _ = unpack("=III", payload[:12])
            return payload[:12] + self.config[offset : offset + size]
        elif request == front.SET_MEM_TABLE:
            count = unpack("=II", payload[:8])[0]
            assert len(fds) == count
            self.maps.clear()  # the table replaces an earlier one
            for at in range(count):
                row = unpack("=QQQQ", payload[8 + 32 * at : 40 + 32 * at])
                self.maps.append((*row, mmap.mmap(fds[at], row[3] + row[1])))
                os.close(fds[at])
        elif request == front.SET_VRING_NUM:
            self.queue.size = unpack("=II", payload)[1]
        elif request == front.SET_VRING_BASE:
            self.queue.next_avail = unpack("=II", payload)[1]
        elif request == front.SET_VRING_ADDR:
            _, _, *addresses, _log = unpack("=IIQQQQ", payload)
            desc, used, avail = (self.to_gpa(address) for address in addresses)
            self.queue.desc, self.queue.used, self.queue.avail = desc, used, avail
        elif request == front.SET_VRING_CALL:
            (self.call,) = fds
        elif request == front.SET_VRING_KICK:
            (self.kick,) = fds
        elif request == front.SET_VRING_ENABLE:
            self.start()
        elif request == front.GET_VRING_BASE:
            self.enabled = False
            return pack("=II", 0, self.queue.next_avail)
        return None

    def to_gpa(self, address):
        for gpa, size, hva, _offset, _memory in self.maps:
            if hva <= address < hva + size:
                return gpa + address - hva
        raise AssertionError(f"{address:#x} is in no region")

    def start(self):
        regions = [
            Region(gpa, memoryview(memory)[offset : offset + size])
            for gpa, size, _hva, offset, memory in self.maps
        ]
        memory = GuestMemory(regions)
        self.queue.ready = True
        self.queue.next_used = int.from_bytes(memory.read(self.queue.used + 2, 2), "little")
        self.queue.activate(memory, bool(self.agreed >> 29 & 1), lambda: None)
        self.enabled = True

    def serve(self):
        while (chain := self.queue.pop()) is not None:
            request = parse_request(chain, SECTORS, False)
            at = request.offset
            for view in request.data:
                if request.kind == v.VIRTIO_BLK_T_IN:
                    view[:] = self.disk[at : at + len(view)]
                elif request.kind == v.VIRTIO_BLK_T_OUT:
                    self.disk[at : at + len(view)] = view
                at += len(view)
            request.status[0] = request.answer
            self.queue.push(chain.head, request.size + 1)
        self.queue.enable_notifications()
        if self.queue.needs_signal():
            os.write(self.call, pack("=Q", 1))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "blk.sock"


def config(path, **fields):
    return DriveConfig(drive_id="data", socket=str(path), **fields).checked()


class SharedDriver(Driver):
    """A driver in memory that another process can map, with real kick and call descriptors."""

    def __init__(self, device):
        self.mapping = memfd(RAM)
        region = Region(0, self.mapping.view, self.mapping.address, self.mapping.file)
        self.memory = GuestMemory([region])
        self.loop = FakeLoop()
        self.irqs = 0
        self.warnings = []
        self.device = device
        self.kick, self.call = EventFd(), EventFd()
        self.loop.watch(self.kick.fd, lambda _events: None)
        self.transport = VirtioMmio(
            device,
            self.memory,
            self.loop,
            raise_irq=self._irq,
            barrier=lambda: None,
            warn=self.warnings.append,
            kicks=[self.kick.fd],
            calls=[self.call.fd],
        )
        self.queues = [DriverQueue(self.memory, 0)]
        self._next_buffer = 0x200000
        self.bring_up()

    def request(self, kind, sector, data_at, size):
        header = self.alloc(16, pack("<IIQ", kind, 0, sector))
        status = self.alloc(1, b"\xff")
        reads = kind == v.VIRTIO_BLK_T_IN
        self.queues[0].add(
            [(header, 16)] + ([] if reads else [(data_at, size)]),
            ([(data_at, size)] if reads else []) + [(status, 1)],
        )
        return status

    def wait(self):
        assert select.select([self.call.fd], [], [], 20)[0], "no interrupt"
        self.call.drain()

    def close(self):
        self.device.deactivate()
        self.device.close()
        self.transport._deactivate()
        self.memory.release()
        self.mapping.close()


@pytest.fixture
def running(path):
    back_end = BackEnd(path)
    device = make_vhost_user_block(config(path))
    driver = SharedDriver(device)
    yield back_end, device, driver
    driver.close()
    back_end.thread.join(20)
    assert not back_end.thread.is_alive()


def test_what_is_offered_is_what_both_sides_have(path):
    BackEnd(path)
    device = make_vhost_user_block(config(path))
    assert device.features == 1 << 30 | 1 << 32 | 1 << 29 | 1 << v.VIRTIO_BLK_F_RO
    assert len(device.config()) == 60
    assert device.config()[:8] == pack("<Q", SECTORS)
    assert device.counters.init_time_us > 0
    device.close()


def test_flush_is_offered_with_writeback_only(path):
    BackEnd(path)
    device = make_vhost_user_block(config(path, cache_type="Writeback"))
    assert device.offers(v.VIRTIO_BLK_F_FLUSH)
    device.close()


def test_requests_are_served_by_the_other_side(running):
    back_end, device, driver = running
    assert driver.status == 15
    data = driver.alloc(1024)
    status = driver.request(v.VIRTIO_BLK_T_IN, 4, data, 1024)
    driver.kick.signal()
    driver.wait()
    assert driver.memory.read(data, 1024) == bytes(back_end.disk[2048:3072])
    assert driver.memory.read(status, 1) == b"\0"
    driver.memory.write(data, b"n" * 1024)
    driver.request(v.VIRTIO_BLK_T_OUT, 8, data, 1024)
    driver.queues[0].set_used_event(1)
    driver.kick.signal()
    driver.wait()
    assert back_end.disk[4096:5120] == b"n" * 1024
    assert driver.loop.watched[driver.kick.fd][1] == 0
    assert driver.read(v.VIRTIO_MMIO_INTERRUPT_STATUS) == 1
    assert driver.irqs == 0
    assert device.counters.activate_time_us > 0


def test_protocol_features_stay_agreed_whatever_the_driver_takes(running):
    back_end, _, _ = running
    assert back_end.agreed & 1 << 30
    assert back_end.agreed_protocol == 1 << 9 | 1 << 3


def test_a_pause_stops_the_other_side_and_a_kick_starts_it_where_it_was(running):
    back_end, device, driver = running
    data = driver.alloc(512)
    driver.request(v.VIRTIO_BLK_T_IN, 0, data, 512)
    driver.kick.signal()
    driver.wait()
    device.pause()
    assert not back_end.enabled
    assert driver.transport.queues[0].next_avail == 1
    assert driver.transport.queues[0].next_used == 1
    driver.request(v.VIRTIO_BLK_T_IN, 1, data, 512)
    driver.queues[0].set_used_event(1)
    device.kick()
    driver.wait()
    assert driver.memory.read(data, 512) == bytes(back_end.disk[512:1024])


def test_a_changed_configuration_reaches_the_driver(running):
    back_end, device, driver = running
    back_end.config = pack("<Q", 7) + bytes(52)
    device.refresh_config()
    assert driver.config(8) == pack("<Q", 7)
    assert driver.irqs == 1
    assert driver.read(v.VIRTIO_MMIO_INTERRUPT_STATUS) & v.VIRTIO_MMIO_INT_CONFIG
    assert device.counters.config_change_time_us > 0


def test_the_other_side_learns_of_changed_memory_while_it_serves(running):
    back_end, device, driver = running
    back_end.maps.clear()
    device.memory_changed()
    assert back_end.seen[-1] == front.SET_MEM_TABLE
    assert [(gpa, size) for gpa, size, *_ in back_end.maps] == [(0, RAM)]
    device.pause()
    count = len(back_end.seen)
    device.memory_changed()
    assert len(back_end.seen) == count
    assert driver.status == 15


def test_a_reset_stops_the_other_side(running):
    back_end, _, driver = running
    driver.write(v.VIRTIO_MMIO_STATUS, 0)
    assert back_end.seen[-1] == front.GET_VRING_BASE
    assert not back_end.enabled
    driver.bring_up()
    assert back_end.enabled


def test_there_is_no_state_to_save(running):
    _, device, _ = running
    with pytest.raises(StateError) as caught:
        device.state()
    assert str(caught.value) == (
        "Devices without snapshot support are present: vhost-user-block(id: data)"
    )


def test_without_acknowledgements_requests_are_only_sent(path):
    back_end = BackEnd(path, protocol=1 << 9)
    device = make_vhost_user_block(config(path))
    driver = SharedDriver(device)
    data = driver.alloc(512)
    driver.request(v.VIRTIO_BLK_T_IN, 3, data, 512)
    driver.kick.signal()
    driver.wait()
    assert driver.memory.read(data, 512) == bytes(back_end.disk[1536:2048])
    driver.close()


def test_memory_that_is_not_shared_cannot_be_served(path):
    BackEnd(path)
    device = make_vhost_user_block(config(path))
    driver = Driver(device, bring_up=False)
    driver.transport.kicks, driver.transport.calls = [1], [1]
    (region,) = driver.memory.regions
    region.hva = 1 << 40
    driver.bring_up()
    assert driver.status & v.VIRTIO_CONFIG_S_NEEDS_RESET
    assert "0 regions of shared memory" in driver.transport.broken
    assert device.counters.activate_fails == 1
    device.close()


def test_nobody_listening_is_named(path):
    with pytest.raises(HostError) as caught:
        make_vhost_user_block(config(path))
    assert str(caught.value) == (
        f"Vhost-user backend error: {path}: connect: No such file or directory (os error 2)"
    )


def test_a_drive_with_a_file_is_no_business_of_ours():
    with pytest.raises(ConfigError):
        make_vhost_user_block(DriveConfig(drive_id="a", path_on_host="/x"))


def reply(request, payload, *, flags=5, size=None):
    return pack("=III", request, flags, len(payload) if size is None else size) + payload


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"features": 1 << 32}, "has no protocol features"),
        ({"features": 1 << 30}, "does not know virtio 1"),
        ({"protocol": 1 << 3}, "has no configuration space"),
        ({"answers": {1: reply(2, bytes(8))}}, "answered request 1 with 2, flags 0x5"),
        ({"answers": {1: reply(1, bytes(8), flags=1)}}, "answered request 1 with 1, flags 0x1"),
        ({"answers": {1: reply(1, bytes(8), flags=6)}}, "flags 0x6"),
        ({"answers": {1: reply(1, bytes(4))}}, "with 4 bytes, not 8"),
        ({"answers": {1: reply(1, b"", size=1 << 31)}}, "answered with 2147483648 bytes"),
        ({"answers": {24: reply(24, bytes(12))}}, "configuration space of 0 bytes, not 60"),
        ({"answers": {24: reply(24, bytes(4))}}, "configuration space of 0 bytes, not 60"),
    ],
)
def test_what_the_other_side_answers_is_checked(path, options, text):
    BackEnd(path, **options)
    with pytest.raises(HostError, match="Vhost-user backend error") as caught:
        make_vhost_user_block(config(path))
    assert text in str(caught.value)


def test_a_refused_request_breaks_the_device(path):
    answers = {front.SET_VRING_ADDR: reply(front.SET_VRING_ADDR, pack("=Q", 1))}
    BackEnd(path, answers=answers)
    driver = SharedDriver(make_vhost_user_block(config(path)))
    assert "refused request 9" in driver.transport.broken
    driver.close()


def test_a_silent_other_side_is_not_waited_for(path, monkeypatch):
    monkeypatch.setattr(front, "TIMEOUT", 0.01)
    BackEnd(path, answers={front.GET_FEATURES: b""})
    with pytest.raises(HostError, match=r"answer to request 1: nothing for 0 s"):
        make_vhost_user_block(config(path))


def test_an_other_side_that_goes_away_is_no_obstacle_to_a_reset(running):
    back_end, device, driver = running
    back_end.peer.shutdown(socket.SHUT_RDWR)
    back_end.thread.join(20)
    driver.write(v.VIRTIO_MMIO_STATUS, 0)
    assert driver.status == 0
    with pytest.raises(HostError):
        device.refresh_config()
    assert device.counters.cfg_fails == 1
