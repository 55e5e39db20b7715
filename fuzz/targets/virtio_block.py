"""The block device over a disk in memory that completes requests now or later."""

from __future__ import annotations

from errno import EIO
from struct import pack

from fuzz.devices import Harness
from fuzz.source import Source
from pyrovm.abi.virtio import VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT
from pyrovm.devices.rate_limiter import RateLimiter, TokenBucket
from pyrovm.devices.virtio_block import UNSAFE, WRITEBACK, VirtioBlock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.devices.virtio_block_request import Request

DISK_SIZE = 16 * 512
COMPLETION_FD = 99
KINDS = (0, 1, 4, 8, 11, 13, 5, 0xFFFF_FFFF)


class Disk:
    """A disk that checks what it is asked; ``later`` keeps requests until they are drained."""

    is_own = False

    def __init__(self, later: bool, faulty: bool) -> None:
        self.size = DISK_SIZE
        self.disk_id = b"fuzz"
        self.completion_fd = COMPLETION_FD if later else -1
        self._faulty = faulty
        self._bytes = bytearray(DISK_SIZE)
        self._waiting: list[Request] = []
        self._closed = False

    @property
    def has_room(self) -> bool:
        return len(self._waiting) < 8

    def submit(self, request: Request) -> int | None:
        """A device asks only for what it may ask for."""
        assert not self._closed
        assert request.offset >= 0
        assert request.offset + request.size <= DISK_SIZE
        assert sum(map(len, request.data)) == request.size
        if self.completion_fd < 0:
            return self._perform(request)
        assert self.has_room
        self._waiting.append(request)
        return None

    def _perform(self, request: Request) -> int:
        if self._faulty and request.offset:
            return -EIO
        at = request.offset
        for view in request.data:
            end = at + len(view)
            if request.kind == VIRTIO_BLK_T_IN:
                view[:] = self._bytes[at:end]
            elif request.kind == VIRTIO_BLK_T_OUT:
                self._bytes[at:end] = view
            at = end
        return at - request.offset

    def start(self) -> None:
        """Nothing to do."""

    def completed(self) -> list[tuple[Request, int]]:
        """The last one is finished first."""
        done, self._waiting = self._waiting[::-1], []
        return [(request, self._perform(request)) for request in done]

    def drain(self) -> list[tuple[Request, int]]:
        return self.completed()

    def close(self) -> None:
        self._closed = True


def request(source: Source) -> tuple[bytes, int]:
    """A request of any kind, mostly within the disk."""
    kind = source.choice(KINDS)
    sector = source.below(20) if source.u8() & 7 else source.edge()
    size = 512 * source.below(5) if source.u8() & 7 else source.below(2000)
    header = pack("<IIQ", kind, 0, sector)
    if source.u8() & 15 == 0:
        header = header[: source.below(16)]
    if kind in (1, 11, 13):
        return header + b"d" * size, source.choice((1, 1, 1, 0, 2))
    return header, size + 1


def one_input(data: bytes) -> None:
    """The first byte selects read-only, write-back, a slow disk, a faulty disk, a rate limit."""
    source = Source(data)
    options = source.u8()

    def make() -> VirtioBlock:
        limiter = None
        if options & 16:
            limiter = RateLimiter(
                TokenBucket(4096, 1_000_000, 0, lambda: 0), TokenBucket(8, 1_000_000, 4, lambda: 0)
            )
        return VirtioBlock(
            "disk",
            Disk(later=bool(options & 4), faulty=bool(options & 8)),
            read_only=bool(options & 1),
            cache_type=WRITEBACK if options & 2 else UNSAFE,
            limiter=limiter,
        )

    def host(device: VirtioBlock) -> None:
        """A PATCH of the drive."""
        if source.flag():
            device.update_engine(Disk(later=source.flag(), faulty=source.flag()))
        else:
            limiter = RateLimiter(None, TokenBucket(4, 1_000_000, 0, lambda: 0))
            device.update_limiter(limiter, bandwidth=source.flag(), ops=source.flag())

    harness = Harness(make, source, request, host=host)  # type: ignore[arg-type]
    harness.run()
    harness.finish()


SEEDS = [
    b"\x00" + b"\x00\x00\x01\x01\x01\x01\x02\x01" * 3,
    b"\x06" + b"\x00\x01\x01\x01\x02\x01\x01\x01\x10" * 4,
    b"\x13" + b"\x00\x02\x01\x01\x01\x00\x00\x10\x0a\x02" * 12,
    b"\x0c" + b"\x00\x03\x01\x01\x01\x02\x01\x00\x05\x0c\x0b\x01" * 3,
]
