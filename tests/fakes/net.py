"""A tap and a metadata service in memory, and a driver of a network device between them."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

from pyrovm.abi import virtio as v
from pyrovm.devices.rate_limiter import RateLimiter, TokenBucket
from pyrovm.devices.virtio_net import VirtioNet
from pyrovm.virtio.queue import part
from tests.fakes.driver import Driver

TAP_FD = 55
MAC = bytes.fromhex("060000000001")
VERSION_1 = 1 << v.VIRTIO_F_VERSION_1
MERGEABLE = VERSION_1 | 1 << v.VIRTIO_NET_F_MRG_RXBUF
TSO = VERSION_1 | 1 << v.VIRTIO_NET_F_GUEST_TSO4
EVENT_IDX = 1 << v.VIRTIO_RING_F_EVENT_IDX
NUM_BUFFERS = slice(10, 12)


def frame(size=60, source=MAC, fill=0xAB):
    return (b"\xff" * 6 + source + b"\x08\x00").ljust(size, bytes([fill]))


class FakeTap:
    """``waiting`` frames are read as the kernel would: header, then what fits."""

    def __init__(self):
        self.fd = TAP_FD
        self.waiting = deque()
        self.sent = []
        self.offload = None
        self.broken = False
        self.reads = 0
        self.closed = False

    def readv(self, views):
        self.reads += 1
        if self.broken:
            raise OSError(77, "File descriptor in bad state")
        if not self.waiting:
            return None
        data = bytes(10) + b"\xee\xee" + self.waiting.popleft()  # num_buffers is not the tap's
        done = 0
        for view in part(views, 0, len(data)):
            view[:] = data[done : done + len(view)]
            done += len(view)
        return done

    def writev(self, views):
        if self.broken:
            raise OSError(5, "Input/output error")
        self.sent.append(b"".join(views))
        return len(self.sent[-1])

    def set_offload(self, features):
        self.offload = features

    def close(self):
        self.closed = True


class FakeMmds:
    """Takes frames that end in MMDS and echoes them."""

    def __init__(self):
        self.frames = deque()
        self.timeout = None
        self.seen = []

    @property
    def has_frames(self):
        return bool(self.frames)

    def detour(self, data):
        copy = bytes(data)
        self.seen.append(copy)
        if copy.endswith(b"MMDS"):
            self.frames.append(b"reply to " + copy)
            return True
        return False

    def next_frame(self):
        return self.frames.popleft() if self.frames else None

    def next_timeout(self):
        return self.timeout


class Net:
    """A driver of a network device."""

    def __init__(self, *, features=None, bring_up=True, **options):
        self.tap = FakeTap()
        self.device = VirtioNet("eth0", self.tap, **options)
        self.driver = Driver(self.device, features=features, bring_up=bring_up)
        self.rx, self.tx = self.driver.queues
        self.counters = self.device.counters
        self.buffers = {}

    def post(self, size=2048, count=1, pieces=1):
        """Post receive buffers; they are known by their heads."""
        for _ in range(count):
            gpa = self.driver.alloc(size)
            step = size // pieces
            parts = [(gpa + i * step, step) for i in range(pieces - 1)]
            parts.append((gpa + (pieces - 1) * step, size - (pieces - 1) * step))
            self.buffers[self.rx.add([], parts)] = gpa

    def send(self, data, *, header=bytes(12), cuts=()):
        raw = header + data
        edges = [0, *cuts, len(raw)]
        parts = []
        for a, b in pairwise(edges):
            parts.append((self.driver.alloc(max(b - a, 1), raw[a:b]), b - a))
        return self.tx.add(parts, [])

    def arrive(self, *frames):
        self.tap.waiting.extend(frames)
        self.driver.loop.fire(TAP_FD)

    def received(self):
        """What the driver sees: [(header, frame)], merged buffers put together."""
        used = deque(self.rx.take_used())
        found = []
        while used:
            head, size = used.popleft()
            data = self.driver.memory.read(self.buffers[head], size)
            for _ in range(int.from_bytes(data[NUM_BUFFERS], "little") - 1):
                head, size = used.popleft()
                data += self.driver.memory.read(self.buffers[head], size)
            found.append((data[:12], data[12:]))
        return found

    @property
    def watches_tap(self):
        return bool(self.driver.loop.watched[TAP_FD][1])


def limiter(*, ops=0, size=0):
    return RateLimiter(
        bandwidth=TokenBucket(size, 1000) if size else None,
        ops=TokenBucket(ops, 1000) if ops else None,
    )
