"""The pages that a guest needs right after a restore, remembered beside its memory file.

``MEMORY.ws`` lists ranges of the memory file, those needed first at the front.  It is a hint: one
that is damaged, or of another memory file (size and time of change tell), counts as none.  An empty
file of that name is a wish: the next guest that is restored from the memory file has its pages
remembered there.
"""

from __future__ import annotations

import os
from struct import Struct
from zlib import crc32

from pyrovm.errors import HostError
from pyrovm.snapshot import pages
from pyrovm.snapshot.part import Part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyrovm.host.mapping import Mapping
    from pyrovm.snapshot.pages import Range

SUFFIX = ".ws"
MAGIC = b"\x93PYROWS\n"
RANGES_MAX = 1 << 17
EOPNOTSUPP = 95
RECORD_SECONDS = 10.0  # after a restore
_SAMPLES = 16

_HEAD = Struct("<8sIIQQ")  # magic, CRC-32 of all behind it, number of ranges, file's size, mtime_ns
_CHECKED = 12  # bytes before what the CRC covers
_RANGE = Struct("<QQ")


def is_wanted(memory_path: str) -> bool:
    """Whether somebody has made an empty list for this memory file.

    Raises:
        HostError: that cannot be told.
    """
    try:
        return os.stat(memory_path + SUFFIX).st_size == 0
    except FileNotFoundError:
        return False
    except OSError as error:
        raise HostError.wrap(memory_path + SUFFIX, error) from None


def record(memory_path: str, mappings: Iterable[tuple[int, Mapping]]) -> list[Range]:
    """Remember what a guest, restored by private mappings, has touched until now.

    ``mappings`` come with their offsets in the memory file.  With each touched page the kernel maps
    some around it, up to the whole folio of the page cache: they count as well.

    Raises:
        HostError: the memory file is gone, or no file can be written beside it.
    """
    found: list[Range] = []
    for offset, each in mappings:
        for start, end in pages.touched(each.address, each.size) or ():
            found.append((offset + start, offset + end))
    save(memory_path, found)
    return found


def save(memory_path: str, ranges: Iterable[Range]) -> None:
    """Write ``ranges`` of the memory file, in order of need, beside it; at most RANGES_MAX.

    Raises:
        HostError: the memory file is gone, or no file can be written beside it.
    """
    try:
        found = os.stat(memory_path)
    except OSError as error:
        raise HostError.wrap(memory_path, error) from None
    kept = list(ranges)[:RANGES_MAX]
    body = b"".join(_RANGE.pack(start, end) for start, end in kept)
    head = _HEAD.pack(MAGIC, 0, len(kept), found.st_size, found.st_mtime_ns)
    data = bytearray(head + body)
    data[8:_CHECKED] = crc32(data[_CHECKED:]).to_bytes(4, "little")
    with Part(memory_path + SUFFIX) as part:
        part.write(data, 0)
        part.publish(sync=False)  # a hint: not worth a wait for the disk


def load(memory_path: str) -> list[Range]:
    """The ranges that were remembered of this memory file; none if there are none.

    Raises:
        HostError: the memory file is gone, or the list cannot be read.
    """
    try:
        memory = os.stat(memory_path)
        with open(memory_path + SUFFIX, "rb") as file:
            data = file.read(_HEAD.size + RANGES_MAX * _RANGE.size + 1)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HostError.wrap(memory_path + SUFFIX, error) from None
    return parse(data, memory.st_size, memory.st_mtime_ns)


def parse(data: bytes, size: int, mtime_ns: int) -> list[Range]:
    """The ranges in ``data``; none if it is damaged or of another file."""
    if len(data) < _HEAD.size:
        return []
    magic, crc, count, its_size, its_mtime_ns = _HEAD.unpack_from(data)
    is_ours = magic == MAGIC and (its_size, its_mtime_ns) == (size, mtime_ns)
    if not is_ours or len(data) != _HEAD.size + count * _RANGE.size or count > RANGES_MAX:
        return []
    if crc32(data[_CHECKED:]) != crc:
        return []
    found = list(_RANGE.iter_unpack(data[_HEAD.size :]))
    for start, end in found:
        if start % pages.PAGE or end % pages.PAGE or not start < end <= size:
            return []
    return found


def read_ahead(fd: int, ranges: Sequence[Range]) -> int:
    """Have these ranges of the memory file read from the disk, without waiting; their bytes.

    The disk gets all of them at once: by the guest's faults it would get one after the other.  0
    and nothing is done where a sample of them is in the page cache: then a fault costs less than
    mapping the page ahead.

    Raises:
        HostError: the file cannot be read.
    """
    step = max(1, len(ranges) // _SAMPLES)
    try:
        if all(_is_cached(fd, start) for start, _ in ranges[::step]):
            return 0
        for start, end in ranges:
            os.posix_fadvise(fd, start, end - start, os.POSIX_FADV_WILLNEED)
    except OSError as error:
        raise HostError.wrap("Cannot read the working set", error) from None
    return sum(end - start for start, end in ranges)


def _is_cached(fd: int, offset: int) -> bool:
    try:
        os.preadv(fd, [bytearray(1)], offset, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno == EOPNOTSUPP:  # the file system cannot tell: it may as well be asked
            return False
        raise
    return True
