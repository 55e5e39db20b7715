"""What vhost is told, recorded at the ioctl gate; a real one serves in the lab's tests."""

import os

import pytest

from pyrovm.abi import vhost as abi
from pyrovm.abi import virtio as v
from pyrovm.backends import vhost, vhost_net
from pyrovm.backends.vhost import Vhost
from pyrovm.backends.vhost_net import RING_FEATURES, VhostNet
from pyrovm.errors import HostError, Unsupported
from pyrovm.host.eventfd import EventFd
from pyrovm.memory.guest_memory import GuestMemory, GuestMemoryError, Region
from pyrovm.virtio.queue import Queue

HVA = 0x7F00_0000_0000
RAM = 1 << 20


class Kernel:
    """Records ioctls as (request, argument bytes) and answers those that ask."""

    def __init__(self):
        self.calls = []
        self.refuse = {}  # request -> how many of them pass before one is refused
        self.bases = {}

    def answer(self, request, argument):
        passes = self.refuse.get(request)
        if passes == 0:
            raise HostError("refused", 22)
        if passes is not None:
            self.refuse[request] = passes - 1
        self.calls.append((request, bytes(argument)))
        if request == abi.VHOST_GET_FEATURES:
            argument[:] = (1 << 40 | 5).to_bytes(8, "little")
        if request == abi.VHOST_GET_VRING_BASE:
            state = abi.vhost_vring_state(argument)
            state.num = self.bases[state.index]
        return 0

    def named(self, request, kind):
        """The arguments of all calls of ``request``."""
        return [kind.from_bytes(data) for number, data in self.calls if number == request]


@pytest.fixture
def kernel(monkeypatch, tmp_path):
    kernel = Kernel()

    def with_struct(_fd, request, structure, *, what):
        return kernel.answer(request, structure.view)

    def with_buffer(_fd, request, buffer, *, what):
        return kernel.answer(request, buffer)

    monkeypatch.setattr(vhost, "ioctl", lambda _fd, request, what: kernel.answer(request, b""))
    monkeypatch.setattr(vhost, "ioctl_struct", with_struct)
    monkeypatch.setattr(vhost_net, "ioctl_struct", with_struct)
    monkeypatch.setattr(vhost, "ioctl_buffer", with_buffer)
    path = tmp_path / "vhost-net"
    path.touch()
    monkeypatch.setattr(vhost_net, "VHOST_NET", str(path))
    return kernel


@pytest.fixture
def memory():
    high = Region(1 << 32, memoryview(bytearray(RAM)), HVA + (1 << 36))
    no_address = Region(1 << 40, memoryview(bytearray(4096)))
    return GuestMemory([Region(0, memoryview(bytearray(RAM)), HVA), high, no_address])


def make_queue(index, size=64, next_avail=9):
    queue = Queue(index, 256)
    queue.size, queue.ready, queue.next_avail = size, True, next_avail
    queue.desc, queue.avail, queue.used = 0x1000, 0x2000, 0x3000
    return queue


def test_a_host_without_the_device_is_told_what_to_load(tmp_path):
    with pytest.raises(Unsupported, match="load the kernel module vhost-net"):
        Vhost(str(tmp_path / "vhost-net"))


def test_a_device_that_refuses_its_owner_is_closed(kernel, tmp_path):
    kernel.refuse[abi.VHOST_SET_OWNER] = 0
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(HostError):
        Vhost(vhost_net.VHOST_NET)
    assert len(os.listdir("/proc/self/fd")) == before


def test_features_are_64_bits(kernel):
    device = Vhost(vhost_net.VHOST_NET)
    assert device.features() == 1 << 40 | 5
    device.set_features(1 << 32)
    assert kernel.calls[-1] == (abi.VHOST_SET_FEATURES, (1 << 32).to_bytes(8, "little"))
    device.close()
    device.close()


def test_the_memory_table_has_every_region_with_an_address(kernel, memory):
    device = Vhost(vhost_net.VHOST_NET)
    device.set_memory(memory)
    _, table = kernel.calls[-1]
    assert abi.vhost_memory.from_bytes(table[:8]).nregions == 2
    rows = [abi.vhost_memory_region.from_bytes(table[at : at + 32]) for at in (8, 40)]
    assert [(r.guest_phys_addr, r.memory_size, r.userspace_addr) for r in rows] == [
        (0, RAM, HVA),
        (1 << 32, RAM, HVA + (1 << 36)),
    ]
    assert len(table) == 8 + 2 * 32
    device.close()


def test_a_ring_is_described_by_host_addresses(kernel, memory):
    device = Vhost(vhost_net.VHOST_NET)
    device.set_vring(1, make_queue(0), memory, kick=50, call=60)
    (address,) = kernel.named(abi.VHOST_SET_VRING_ADDR, abi.vhost_vring_addr)
    assert (address.index, address.flags) == (1, 0)
    assert (address.desc_user_addr, address.avail_user_addr, address.used_user_addr) == (
        HVA + 0x1000,
        HVA + 0x2000,
        HVA + 0x3000,
    )
    for request, value in ((abi.VHOST_SET_VRING_NUM, 64), (abi.VHOST_SET_VRING_BASE, 9)):
        (state,) = kernel.named(request, abi.vhost_vring_state)
        assert (state.index, state.num) == (1, value)
    for request, fd in ((abi.VHOST_SET_VRING_KICK, 50), (abi.VHOST_SET_VRING_CALL, 60)):
        (file,) = kernel.named(request, abi.vhost_vring_file)
        assert (file.index, file.fd) == (1, fd)
    device.close()


def test_a_ring_outside_of_the_kernel_s_memory_is_the_guest_s_fault(kernel, memory):
    device = Vhost(vhost_net.VHOST_NET)
    queue = make_queue(0)
    queue.used = 1 << 40
    with pytest.raises(GuestMemoryError):
        device.set_vring(0, queue, memory, kick=1, call=2)
    device.close()


def test_a_queue_taken_back_continues_where_the_kernel_stopped(kernel, memory):
    device = Vhost(vhost_net.VHOST_NET)
    kernel.bases[0] = 17
    memory.write(0x3002, (15).to_bytes(2, "little"))
    queue = make_queue(0)
    device.take_back(0, queue, memory)
    assert (queue.next_avail, queue.next_used) == (17, 15)
    device.close()


def test_vhost_net_serves_all_ready_queues_with_the_tap(kernel, memory):
    kicks = [EventFd(), EventFd()]
    net = VhostNet(tap_fd=33)
    queues = [make_queue(0), make_queue(1)]
    features = (1 << 35) - 1
    net.start(memory, queues, features, [kick.fd for kick in kicks], [60, 60])
    assert kernel.calls[1] == (abi.VHOST_SET_FEATURES, RING_FEATURES.to_bytes(8, "little"))
    backends = kernel.named(abi.VHOST_NET_SET_BACKEND, abi.vhost_vring_file)
    assert [(b.index, b.fd) for b in backends] == [(0, 33), (1, 33)]
    assert [kick.drain() for kick in kicks] == [1, 1]

    kernel.bases.update({0: 3, 1: 4})
    kernel.calls.clear()
    net.stop(memory, queues)
    backends = kernel.named(abi.VHOST_NET_SET_BACKEND, abi.vhost_vring_file)
    assert [(b.index, b.fd) for b in backends] == [(0, -1), (1, -1)]
    assert [q.next_avail for q in queues] == [3, 4]
    net.close()
    for kick in kicks:
        kick.close()


def test_vhost_net_leaves_a_queue_alone_that_the_driver_did_not_set_up(kernel, memory):
    kick = EventFd()
    net = VhostNet(tap_fd=33)
    queues = [make_queue(0), make_queue(1)]
    queues[0].ready = False
    net.start(memory, queues, 1 << v.VIRTIO_F_VERSION_1, [kick.fd, kick.fd], [60, 60])
    backends = kernel.named(abi.VHOST_NET_SET_BACKEND, abi.vhost_vring_file)
    assert [b.index for b in backends] == [1]
    net.close()
    kick.close()


def test_a_refused_backend_leaves_nothing_served(kernel, memory):
    net = VhostNet(tap_fd=33)
    kernel.refuse[abi.VHOST_NET_SET_BACKEND] = 1

    def allow_again(request, argument, inner=kernel.answer):
        try:
            return inner(request, argument)
        except HostError:
            kernel.refuse.clear()
            raise

    kernel.answer = allow_again
    with pytest.raises(HostError):
        net.start(memory, [make_queue(0), make_queue(1)], RING_FEATURES, [1, 1], [1, 1])
    backends = kernel.named(abi.VHOST_NET_SET_BACKEND, abi.vhost_vring_file)
    assert [(b.index, b.fd) for b in backends] == [(0, 33), (0, -1), (1, -1)]
    net.close()
