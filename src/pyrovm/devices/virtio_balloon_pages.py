"""Which memory a balloon gives back: page numbers and ranges of a driver, made into few calls.

Everything here is arithmetic on (gpa, size) in bytes.  What a driver names may be scattered,
repeated, unaligned or no memory at all; what comes out is sorted, merged, of whole pages, and in
memory.
"""

from __future__ import annotations

from struct import unpack

from pyrovm.abi.virtio import VIRTIO_BALLOON_PFN_SHIFT
from pyrovm.errors import ConfigError, GuestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyrovm.memory.guest_memory import Region
    from pyrovm.virtio.queue import Chain

    Range = tuple[int, int]  # gpa and size, in bytes

PAGE_SIZE = 1 << VIRTIO_BALLOON_PFN_SHIFT  # whatever the guest's own pages measure
PAGES_PER_MIB = 256
MAX_PAGES = 0xFFFF_FFFF  # that the configuration space can name
MAX_CHAIN_PFNS = 2048  # of one request; Linux sends up to 256


def mib_to_pages(amount_mib: int) -> int:
    """Pages of 4 KiB in so many MiB.

    Raises:
        ConfigError: the configuration space has no room for the number.
    """
    if amount_mib > MAX_PAGES // PAGES_PER_MIB:
        raise ConfigError("Amount of pages requested is too large.")
    return amount_mib * PAGES_PER_MIB


def parse_pfns(chain: Chain) -> tuple[int, ...]:
    """The page numbers of one inflate or deflate request.

    Raises:
        GuestError: the request is no array of 32-bit numbers, or too long a one.
    """
    size = chain.readable_size
    if size % 4 or size > 4 * MAX_CHAIN_PFNS:
        raise GuestError(
            f"balloon: a request of {size} bytes; up to {MAX_CHAIN_PFNS} page numbers of 4 bytes"
        )
    return unpack(f"<{size // 4}I", chain.read(0, size))


def pages(pfns: Iterable[int]) -> list[Range]:
    """The ranges that cover just these pages: sorted, merged, each page once."""
    found: list[Range] = []
    start = end = -1
    for pfn in sorted(pfns):
        if pfn > end:
            if start >= 0:
                found.append((start << VIRTIO_BALLOON_PFN_SHIFT, (end - start) * PAGE_SIZE))
            start = pfn
            end = pfn + 1
        elif pfn == end:
            end += 1
    if start >= 0:
        found.append((start << VIRTIO_BALLOON_PFN_SHIFT, (end - start) * PAGE_SIZE))
    return found


def whole_pages(gpa: int, size: int) -> Range | None:
    """The part of a range that is whole pages; None if there is none."""
    start = -(-gpa // PAGE_SIZE) * PAGE_SIZE
    end = (gpa + size) // PAGE_SIZE * PAGE_SIZE
    return (start, end - start) if start < end else None


def in_memory(ranges: Iterable[Range], regions: Sequence[Region]) -> list[Range]:
    """The parts of ``ranges`` (sorted, disjoint) that lie in ``regions`` (sorted, disjoint)."""
    found: list[Range] = []
    first = 0  # the regions before it end before every range still to come
    for gpa, size in ranges:
        end = gpa + size
        while first < len(regions) and regions[first].end <= gpa:
            first += 1
        at = first
        while at < len(regions) and regions[at].gpa < end:
            start, stop = max(gpa, regions[at].gpa), min(end, regions[at].end)
            found.append((start, stop - start))
            at += 1
    return found
