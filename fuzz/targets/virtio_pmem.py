"""Persistent memory: requests to make it durable."""

from __future__ import annotations

from struct import pack

from fuzz.devices import Harness
from fuzz.source import Source
from pyrovm.devices.rate_limiter import RateLimiter, TokenBucket
from pyrovm.devices.virtio_pmem import VirtioPmem
from pyrovm.errors import HostError


class File:
    """A file of 2 MiB; ``faulty`` cannot be made durable."""

    read_only = False
    size = 2 << 20
    file_size = 2 << 20

    def __init__(self, faulty: bool) -> None:
        self._faulty = faulty

    def open(self) -> None:
        """The machine's business."""

    def flush(self) -> None:
        """Durable, or not."""
        if self._faulty:
            raise HostError("msync: I/O error", 5)

    def close(self) -> None:
        """Nothing to do."""


def request(source: Source) -> tuple[bytes, int]:
    """A request of four bytes and an answer of four, give or take a few."""
    kind = pack("<I", source.below(3))
    return kind[: source.choice((4, 4, 4, 3, 0))], source.choice((4, 4, 4, 3, 5, 0))


def one_input(data: bytes) -> None:
    """The first byte selects a faulty disk and a rate limit."""
    source = Source(data)
    options = source.u8()

    def make() -> VirtioPmem:
        limiter = None
        if options & 2:
            limiter = RateLimiter(None, TokenBucket(2, 1_000_000, 0, lambda: 0))
        device = VirtioPmem("p", File(bool(options & 1)), limiter)
        device.place(1 << 39)
        return device

    harness = Harness(make, source, request)
    harness.run()
    harness.finish()


SEEDS = [
    b"\x00" + b"\x00\x00\x00\x00\x04" * 3,
    b"\x01" + b"\x00\x00\x00\x00\x00" * 3 + b"\x0c",
    b"\x02" + b"\x00\x00\x00\x00\x00" * 5 + b"\x0a\x03\x0c",
]
