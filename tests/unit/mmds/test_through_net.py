"""The metadata service behind a network device: requests and answers in virtqueues."""

from collections import deque

import pytest

from pyrovm.abi.virtio import VIRTIO_F_VERSION_1
from pyrovm.devices.rate_limiter import RateLimiter, TokenBucket
from pyrovm.devices.virtio_net import VirtioNet
from pyrovm.mmds.tcp import RTO_MS
from tests.fakes.driver import Driver
from tests.unit.mmds.guest import GUEST_MAC, Client, Guest, get, split_response

HEADER = 12
BUFFER = 2048
TAP_FD = 70


class SilentTap:
    """Remembers what was sent to the network; nothing comes from there."""

    def __init__(self):
        self.fd = TAP_FD
        self.sent = []

    def readv(self, _views):
        return None

    def writev(self, views):
        self.sent.append(b"".join(views))
        return len(self.sent[-1])

    def set_offload(self, _features):
        pass

    def close(self):
        pass


class NetPath:
    """Stands where a stack stands for a Guest, with the device between them."""

    def __init__(self, stack, buffers, **options):
        self.stack = stack
        self.tap = SilentTap()
        self.device = VirtioNet("eth0", self.tap, mac=GUEST_MAC, mmds=stack, **options)
        # Without offloads: a frame fits into any one buffer.
        self.driver = Driver(self.device, features=1 << VIRTIO_F_VERSION_1)
        self.rx, self.tx = self.driver.queues
        self.frame_gpa = self.driver.alloc(BUFFER)
        self.buffers = {}
        self.received = deque()
        for _ in range(buffers):
            self._post(self.driver.alloc(BUFFER))

    def _post(self, gpa):
        self.buffers[self.rx.add([], [(gpa, BUFFER)])] = gpa

    def detour(self, frame):
        sent = len(self.tap.sent)
        self.driver.memory.write(self.frame_gpa, bytes(HEADER) + frame)
        self.tx.add([(self.frame_gpa, HEADER + len(frame))], [])
        self.driver.notify(1)
        return len(self.tap.sent) == sent

    @property
    def has_frames(self):
        used = self.rx.take_used()
        for head, size in used:
            gpa = self.buffers.pop(head)
            self.received.append(self.driver.memory.read(gpa, size)[HEADER:])
            self._post(gpa)
        if used:
            self.driver.notify(0)
        return bool(self.received)

    def next_frame(self):
        return self.received.popleft() if self.received else None


def guest_with_device(buffers=64, value=None, **options):
    guest = Guest(**({"value": value} if value else {}))
    guest.path = guest.stack = NetPath(guest.stack, buffers, **options)
    return guest


def body(response):
    return split_response(response)[2]


def test_a_request_is_answered_and_nothing_reaches_the_network():
    guest = guest_with_device()
    assert body(Client(guest).request(get("/latest/meta-data/ami-id"))) == "ami-12345678"
    assert guest.path.tap.sent == []
    assert guest.counters.tx_frames == 2


@pytest.mark.parametrize("buffers", [1, 3, 64])
def test_a_large_answer_waits_for_buffers(buffers):
    value = {"large": "x" * 40_000}
    guest = guest_with_device(buffers, value)
    assert body(Client(guest).request(get("/large"))) == value["large"]


def test_other_frames_go_to_the_network():
    guest = guest_with_device()
    frame = b"\xff" * 6 + GUEST_MAC + b"\x08\x00" + bytes(50)
    assert not guest.stack.detour(frame)
    assert guest.path.tap.sent[0][HEADER:] == frame


def test_a_lost_answer_is_repeated_by_the_devices_timer():
    guest = guest_with_device()
    client = Client(guest)
    client.send(get("/latest/meta-data/ami-id"))
    (lost,) = guest.receive()
    guest.clock.now_ms += RTO_MS
    guest.path.driver.loop.advance(RTO_MS / 1000)
    (again,) = guest.receive()
    assert (again.seq, again.payload) == (lost.seq, lost.payload)


def test_frames_for_the_service_cost_nothing_of_the_transmit_limit():
    bucket = TokenBucket(2000, 1_000_000, 0, lambda: 0)
    guest = guest_with_device(tx_limiter=RateLimiter(bucket))
    client = Client(guest)
    for _ in range(50):
        client.request(get("/latest/meta-data/ami-id"))
    assert bucket.budget == 2000
