"""The network device over a tap in memory, with and without the metadata service."""

from __future__ import annotations

from struct import pack

from fuzz.devices import Harness
from fuzz.source import Source
from fuzz.targets._mmds import Conversation
from pyrovm.devices.rate_limiter import RateLimiter, TokenBucket
from pyrovm.devices.virtio_net import VirtioNet
from pyrovm.devices.virtio_net_rx import HEADER_SIZE, MAX_FRAME
from pyrovm.virtio.queue import part

TAP_FD = 99
MAC = b"\6\0\0\0\0\1"
ARP_REQUEST = (
    b"\xff" * 6
    + MAC
    + bytes.fromhex("08060001080006040001")
    + MAC
    + b"\xac\x10\0\2"
    + bytes(6)
    + bytes((169, 254, 169, 254))
)


class Tap:
    """Always has another frame of the size the input says; sometimes it is gone."""

    def __init__(self, source: Source) -> None:
        self.fd = TAP_FD
        self._source = source

    def readv(self, views: list[memoryview]) -> int | None:
        """A frame, cut to what fits."""
        kind = self._source.u8()
        if kind & 3 == 0:
            return None
        if kind & 0xF0 == 0xF0:
            raise OSError(77, "File descriptor in bad state")
        frame = bytes(HEADER_SIZE) + b"f" * (self._source.edge() % MAX_FRAME)
        done = 0
        for view in part(views, 0, len(frame)):
            view[:] = frame[done : done + len(view)]
            done += len(view)
        return done

    def writev(self, views: list[memoryview]) -> int:
        """Whole frames only."""
        size = sum(map(len, views))
        assert HEADER_SIZE + 14 <= size <= MAX_FRAME
        if self._source.u8() & 15 == 15:
            raise OSError(5, "Input/output error")
        return size

    def set_offload(self, features: int) -> None:
        """Anything goes."""

    def close(self) -> None:
        """Nothing to do."""


def request(source: Source) -> tuple[bytes, int]:
    """A frame to send, or a buffer to receive into: which, the queue will say."""
    kind = source.u8()
    if kind & 3 == 0:
        return b"", source.choice((12, 60, 1526, 2048, 65_562, 11, 0))
    if kind & 3 == 1:
        return bytes(HEADER_SIZE) + ARP_REQUEST, 0
    header = pack("<BBHHHHH", *source.take(2).ljust(2), *(source.edge(16) for _ in range(5)))
    return header + b"\xff" * 6 + MAC + source.blob(100), 0


def one_input(data: bytes) -> None:
    """The first byte selects a MAC, the metadata service, and rate limits."""
    source = Source(data)
    options = source.u8()

    def limiter() -> RateLimiter | None:
        return RateLimiter(TokenBucket(3000, 1_000_000, 0, lambda: 0)) if options & 4 else None

    def make() -> VirtioNet:
        return VirtioNet(
            "eth0",
            Tap(source),
            mac=MAC if options & 1 else None,
            mtu=1500 if options & 8 else None,
            rx_limiter=limiter(),
            tx_limiter=limiter(),
            mmds=Conversation().stack if options & 2 else None,
        )

    def host(device: VirtioNet) -> None:
        """A PATCH of the interface."""
        new = RateLimiter(None, TokenBucket(4, 1_000_000, 0, lambda: 0))
        update = device.update_rx_limiter if source.flag() else device.update_tx_limiter
        update(new, bandwidth=source.flag(), ops=source.flag())

    harness = Harness(make, source, request, host=host)  # type: ignore[arg-type]
    harness.run()
    harness.finish()


SEEDS = [
    b"\x00"
    + b"\x00\x00\x00\x04\x00" * 4
    + b"\x00\x01\x02\x00\x00\x01\x01\x01\x01\x01\x01\x20"
    + b"x" * 40,
    b"\x03" + b"\x00\x00\x00\x04\x00" * 2 + b"\x00\x01\x01\x00" * 3 + b"\x0a\x03",
    b"\x0d" + b"\x00\x00\x00\x03\x00" * 6 + b"\x0a\x02\x0b\x00\x0c" + b"\x00\x01\x02" * 4,
]
