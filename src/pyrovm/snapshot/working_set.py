"""The pages that a guest needs right after a restore, remembered beside its memory file.

``MEMORY.ws`` lists ranges of the memory file, those needed first at the front.  It is a hint: one
that is damaged, or of another memory file (size and time of change tell), counts as none.
"""

from __future__ import annotations

import mmap
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
    from pyrovm.snapshot.memory import Layout
    from pyrovm.snapshot.pages import Range

SUFFIX = ".ws"
MAGIC = b"\x93PYROWS\n"
RANGES_MAX = 1 << 17
MADV_POPULATE_READ = 22  # Linux 5.14
EINVAL = 22

_HEAD = Struct("<8sIIQQ")  # magic, CRC-32 of all behind it, number of ranges, file's size, mtime_ns
_CHECKED = 12  # bytes before what the CRC covers
_RANGE = Struct("<QQ")


def record(memory_path: str, layout: Layout, mappings: Sequence[Mapping]) -> list[Range]:
    """Remember what a guest, restored by private mappings, has touched until now.

    With each touched page the kernel maps some around it, up to the whole folio of the page cache:
    they count as well.

    Raises:
        HostError: the memory file is gone, or no file can be written beside it.
    """
    found: list[Range] = []
    for r, each in zip(layout.ranges, mappings, strict=True):
        for start, end in pages.touched(each.address, each.size) or ():
            found.append((r.offset + start, r.offset + end))
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


def prefetch(
    ranges: Iterable[Range], layout: Layout, mappings: Sequence[Mapping], *, wait: bool = True
) -> int:
    """Bring these ranges of the memory file; the number of bytes.

    All are asked for before any is waited for: one after the other they would take as long as the
    guest's own faults.  With ``wait`` they are mapped when this returns, without it the disk goes
    on reading.

    Raises:
        HostError: the kernel refused; a memory file that has become shorter does that.
    """
    wanted = pages.union(ranges, ())
    plan = [
        (each, start - r.offset, end - start)
        for r, each in zip(layout.ranges, mappings, strict=True)
        for start, end in pages.intersection(wanted, [(r.offset, r.offset + r.size)])
    ]
    try:
        for each, start, size in plan:
            each.advise(mmap.MADV_WILLNEED, start, size)
        if wait:
            for each, start, size in plan:
                each.advise(MADV_POPULATE_READ, start, size)
    except OSError as error:
        if error.errno != EINVAL:  # before Linux 5.14, which has been told what will be needed
            raise HostError.wrap("Cannot load the working set", error) from None
    return sum(size for _, _, size in plan)
