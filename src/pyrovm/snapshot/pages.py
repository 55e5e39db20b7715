"""Which pages of a mapping were touched, and which parts of a file hold data.

/proc/self/pagemap knows (Documentation/admin-guide/mm/pagemap.rst): by PAGEMAP_SCAN from Linux 6.7
on, before by its 8 bytes for each page.  Ranges are (start, end) in bytes from the mapping's or
the file's beginning, in order, apart from each other.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from struct import Struct

from pyrovm.host.address import address_of_mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Range = tuple[int, int]

PAGE = 4096
ENXIO, EINVAL, ENOTTY = 6, 22, 25

# linux/fs.h, since 6.7.
_PAGEMAP_SCAN = 0xC0606610
_SCAN = Struct("<12Q")  # struct pm_scan_arg
_REGION = Struct("<3Q")  # struct page_region
_IS_FILE, _IS_PRESENT, _IS_SWAPPED, _IS_ZERO = 1 << 2, 1 << 3, 1 << 4, 1 << 5
_REGIONS = 2048  # in one call

# The top byte of a page's 8 in pagemap.
_OLD_PRESENT, _OLD_SWAPPED, _OLD_FILE = 0x80, 0x40, 0x20
_OLD_PAGES = 1 << 20  # in one read


def touched(address: int, size: int) -> list[Range] | None:
    """The pages that are in memory or in swap and not the kernel's zero page.

    None where the kernel does not tell (no /proc in a jail): any page may be.
    """
    return _find(address, size, inverted=_IS_ZERO, mask=_IS_ZERO)


def changed(address: int, size: int) -> list[Range] | None:
    """The pages of a private file mapping that are no longer the file's; None as for touched."""
    both = _IS_ZERO | _IS_FILE
    return _find(address, size, inverted=both, mask=both)


def _find(address: int, size: int, *, inverted: int, mask: int) -> list[Range] | None:
    try:
        fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _scan(fd, address, size, inverted, mask)
    except OSError as error:
        if error.errno not in (ENOTTY, EINVAL):
            return None
        return _read(fd, address, size, is_file_wanted=not mask & _IS_FILE)
    finally:
        os.close(fd)


def _scan(fd: int, address: int, size: int, inverted: int, mask: int) -> list[Range]:
    found: list[Range] = []
    with mmap.mmap(-1, _REGIONS * _REGION.size) as regions:
        vector = address_of_mapping(regions)
        start, end = address, address + size
        anyof = _IS_PRESENT | _IS_SWAPPED
        while start < end:
            argument = bytearray(
                _SCAN.pack(
                    *(
                        _SCAN.size,
                        0,
                        start,
                        end,
                        0,
                        vector,
                        _REGIONS,
                        0,
                        inverted,
                        mask,
                        anyof,
                        mask,
                    )
                )
            )
            count = fcntl.ioctl(fd, _PAGEMAP_SCAN, argument, True)
            for first, last, _ in _REGION.iter_unpack(regions[: count * _REGION.size]):
                _append(found, first - address, last - address)
            start = _SCAN.unpack(argument)[4]  # walk_end
    return found


def _append(found: list[Range], start: int, end: int) -> None:
    if found and found[-1][1] == start:
        found[-1] = (found[-1][0], end)
    else:
        found.append((start, end))


def _read(fd: int, address: int, size: int, *, is_file_wanted: bool) -> list[Range]:
    table = bytes(
        int(bool(b & (_OLD_PRESENT | _OLD_SWAPPED)) and (is_file_wanted or not b & _OLD_FILE))
        for b in range(256)
    )
    found: list[Range] = []
    for start in range(0, size, _OLD_PAGES * PAGE):
        count = min(_OLD_PAGES, (size - start) // PAGE)
        raw = os.pread(fd, count * 8, (address + start) // PAGE * 8)
        for first, last in runs(raw[7::8].translate(table)):
            _append(found, start + first * PAGE, start + last * PAGE)
    return found


def runs(flags: bytes) -> Iterator[Range]:
    """The runs of ones in a string of zeros and ones, as (first, end)."""
    start = flags.find(b"\1")
    while start >= 0:
        end = flags.find(b"\0", start)
        if end < 0:
            end = len(flags)
        yield start, end
        start = flags.find(b"\1", end)


def data_of(fd: int, offset: int, size: int) -> list[Range]:
    """The parts of a file that are no holes (SEEK_DATA), from ``offset`` on, relative to it."""
    found: list[Range] = []
    at, end = offset, offset + size
    while at < end:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
            if start >= end:
                break
            at = min(os.lseek(fd, start, os.SEEK_HOLE), end)
        except OSError as error:
            if error.errno == ENXIO:  # only a hole is left
                break
            if error.errno == EINVAL:  # a file system, or a device, that has no holes
                return [(0, size)]
            raise
        _append(found, start - offset, at - offset)
    return found


def union(first: Iterable[Range], second: Iterable[Range]) -> list[Range]:
    """What is in either."""
    found: list[Range] = []
    for start, end in sorted([*first, *second]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def intersection(first: Iterable[Range], second: Iterable[Range]) -> list[Range]:
    """What is in both; each in order."""
    found: list[Range] = []
    others = iter(second)
    other = next(others, None)
    for start, end in first:
        while other is not None and other[1] <= start:
            other = next(others, None)
        while other is not None and other[0] < end:
            _append(found, max(start, other[0]), min(end, other[1]))
            if other[1] >= end:
                break
            other = next(others, None)
    return found


def without_zeros(view: memoryview, ranges: Iterable[Range]) -> Iterator[Range]:
    """The ranges without their pages of zeros.  hot: per page.

    ``startswith`` is memcmp(3): 0.3 us for a page of zeros, 0.15 us for another; comparing
    memoryviews goes byte by byte and takes 13.
    """
    is_zero: Callable[[memoryview], bool] = bytes(PAGE).startswith
    for start, end in ranges:
        first = -1  # of the run of other pages
        for at in range(start, end, PAGE):
            if is_zero(view[at : at + PAGE]):
                if first >= 0:
                    yield first, at
                    first = -1
            elif first < 0:
                first = at
        if first >= 0:
            yield first, end


def of_numbers(numbers: Iterable[int]) -> list[Range]:
    """Page numbers, in any order, as ranges in bytes."""
    found: list[Range] = []
    for number in sorted(numbers):
        _append(found, number * PAGE, number * PAGE + PAGE)
    return found
