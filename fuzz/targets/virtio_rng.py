"""The entropy device, with a host that is sometimes out of entropy and a rate limit."""

from __future__ import annotations

from fuzz.devices import Harness
from fuzz.source import Source
from pyrovm.devices.rate_limiter import RateLimiter, TokenBucket
from pyrovm.devices.virtio_rng import VirtioRng
from pyrovm.errors import HostError

MAX_REQUEST = 64 << 10


def request(source: Source) -> tuple[bytes, int]:
    """A buffer to fill, rarely with something to read in front."""
    return b"x" * (source.u8() & 0xF0 == 0xF0), source.choice((16, 64, 4096, 0x2800, 1, 0))


def one_input(data: bytes) -> None:
    """The first byte selects a rate limit and a faulty host."""
    source = Source(data)
    options = source.u8()

    def random_bytes(size: int) -> bytes:
        assert 0 <= size <= MAX_REQUEST
        if options & 1 and size % 3 == 0:
            raise HostError("getrandom: Resource temporarily unavailable", 11)
        return b"\xaa" * size

    def make() -> VirtioRng:
        limiter = RateLimiter(TokenBucket(5000, 1_000_000, 0, lambda: 0)) if options & 2 else None
        return VirtioRng(random_bytes, limiter)

    harness = Harness(make, source, request)
    harness.run()
    harness.finish()


SEEDS = [
    b"\x00" + b"\x00\x00\x00\x00" * 4,
    b"\x03" + b"\x00\x00\x00\x03" * 4 + b"\x0a\x04\x10\x01" + b"\x00\x00\x00\x01",
]
