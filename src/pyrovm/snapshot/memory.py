"""Guest memory into a file and back.

The file is the guest's RAM and nothing else: the ranges of a :class:`Layout` one behind the other,
pages that are zero as holes; Firecracker's is the same.  A diff has the pages that changed at those
very places and holes everywhere else, and is as long as the full file.
"""

from __future__ import annotations

import os
import stat
from struct import Struct
from zlib import crc32

from pyrovm.errors import HostError, SnapshotError
from pyrovm.host import mapping
from pyrovm.snapshot import pages, state
from pyrovm.snapshot.part import Part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from pyrovm.snapshot.pages import Range

PAGE = pages.PAGE
RANGES_MAX = 1024
SAMPLES, SAMPLES_MAX = 16, 64
_WRITTEN = Struct("<QQ")
GPA_MAX = 1 << 52
_LOAD = "Failed to load guest memory: "
_FROM_FILE = f"{_LOAD}Error creating guest memory from file: Failed to load guest memory: "


class MemoryRange:
    """``size`` bytes of guest memory at ``gpa``, which are at ``offset`` in the memory file."""

    __slots__ = ("gpa", "offset", "size")

    def __init__(self, gpa: int, size: int, offset: int) -> None:
        self.gpa = gpa
        self.size = size
        self.offset = offset


class Layout:
    """What a memory file holds: the section ``memory`` of a state file.

    ``ranges`` are (gpa, size) in the order of the file.  ``snapshot_type`` is Full or Diff;
    ``huge_pages`` what the guest had (None, Transparent, 2M).  ``written`` are the parts of the
    file that a diff has, None where that is not known: holes tell as well, until somebody copies
    the file without them.  ``samples`` are (offset, CRC-32) of some pages that were written, to
    know the file by.
    """

    __slots__ = ("huge_pages", "ranges", "samples", "snapshot_type", "written")

    def __init__(
        self,
        ranges: Iterable[tuple[int, int]],
        *,
        huge_pages: str = "None",
        snapshot_type: str = "Full",
        written: list[Range] | None = None,
    ) -> None:
        self.ranges: list[MemoryRange] = []
        self.written = written
        self.samples: list[tuple[int, int]] = []
        self.huge_pages = huge_pages
        self.snapshot_type = snapshot_type
        offset = 0
        for gpa, size in ranges:
            self.ranges.append(MemoryRange(gpa, size, offset))
            offset += size

    @property
    def size(self) -> int:
        """Of the memory file, in bytes."""
        return sum(r.size for r in self.ranges)

    def offset_of(self, gpa: int) -> int:
        """Where the page at ``gpa`` is in the file.

        Raises:
            ValueError: it is in no range.
        """
        for r in self.ranges:
            if r.gpa <= gpa < r.gpa + r.size:
                return r.offset + gpa - r.gpa
        raise ValueError(f"guest address {gpa:#x} is in no range")

    def to_json(self) -> dict[str, Any]:
        written = self.written
        return {
            "size": self.size,
            "snapshot_type": self.snapshot_type,
            "huge_pages": self.huge_pages,
            "ranges": [[r.gpa, r.size] for r in self.ranges],
            "written": None if written is None else b"".join(_WRITTEN.pack(*r) for r in written),
            "samples": self.samples,
        }

    @classmethod
    def of(cls, found: state.State) -> Layout:
        """The layout in a state file.

        Raises:
            SnapshotError: it is none; says what is wrong.
        """
        value = found["memory"]
        try:
            return cls._from_json(value)
        except (KeyError, TypeError, ValueError) as error:
            problem = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise SnapshotError(f"{found.path}: section memory: {problem}") from None

    @classmethod
    def _from_json(cls, value: Any) -> Layout:
        ranges = value["ranges"]
        if not isinstance(ranges, list) or not 1 <= len(ranges) <= RANGES_MAX:
            raise ValueError(f"ranges: a list of 1 to {RANGES_MAX} is allowed")
        taken: list[tuple[int, int]] = []
        for index, item in enumerate(ranges):
            match item:
                case [int(gpa), int(size)]:
                    pass
                case _:
                    raise ValueError(f"ranges[{index}]: {item!r}; two numbers are allowed")
            if gpa % PAGE or size % PAGE or gpa < 0 or not 0 < size <= GPA_MAX - gpa:
                raise ValueError(
                    f"ranges[{index}]: {gpa:#x} + {size:#x}; whole pages below {GPA_MAX:#x}"
                )
            for start, end in taken:
                if gpa < end and start < gpa + size:
                    raise ValueError(f"ranges[{index}]: {gpa:#x} + {size:#x} overlaps another")
            taken.append((gpa, gpa + size))
        layout = cls(
            [(start, end - start) for start, end in taken],
            huge_pages=_one_of(value, "huge_pages", ("None", "Transparent", "2M")),
            snapshot_type=_one_of(value, "snapshot_type", ("Full", "Diff")),
        )
        if value["size"] != layout.size:
            raise ValueError(f"size: {value['size']!r}; the ranges have {layout.size}")
        if value["written"] is not None:
            layout.written = _written_of(value["written"], layout.size)
        layout.samples = _samples_of(value["samples"], layout.size)
        return layout


def _written_of(value: Any, size: int) -> list[Range]:
    if not isinstance(value, bytes) or len(value) % _WRITTEN.size:
        raise ValueError(f"written: pairs of 8 bytes are allowed, not {value!r:.80}")
    found = list(_WRITTEN.iter_unpack(value))
    last = 0
    for start, end in found:
        if not last <= start < end <= size or start % PAGE or end % PAGE:
            raise ValueError(
                f"written: {start:#x} to {end:#x}; whole pages in order below {size:#x} are allowed"
            )
        last = end
    return found


def _samples_of(value: Any, size: int) -> list[tuple[int, int]]:
    if not isinstance(value, list) or len(value) > SAMPLES_MAX:
        raise ValueError(f"samples: a list of at most {SAMPLES_MAX} is allowed")
    found = []
    for index, item in enumerate(value):
        match item:
            case [int(offset), int(crc)] if 0 <= offset <= size - PAGE and offset % PAGE == 0:
                found.append((offset, crc))
            case _:
                raise ValueError(
                    f"samples[{index}]: {item!r}; a page's offset below {size:#x} and its CRC-32 "
                    "are allowed"
                )
    return found


def _one_of(value: Any, field: str, allowed: tuple[str, ...]) -> str:
    word = value[field]
    if word not in allowed:
        raise ValueError(f"{field}: {word!r}; {', '.join(allowed)} are allowed")
    return str(word)


class Source:
    """Guest memory to be saved: ``view``, which lies at ``address``, to ``offset`` in the file.

    ``origin`` says what an untouched page is:

    * ``anonymous``: zeros;
    * ``shared``: what ``base`` has there, a memfd or a file (descriptor, offset): the same pages;
    * ``private``: what ``base`` has there: the file that it was restored from;
    * ``served``: whatever a page-fault handler says: every page has to be read.
    """

    __slots__ = ("address", "base", "offset", "origin", "view")

    def __init__(
        self,
        view: memoryview,
        address: int,
        offset: int,
        origin: str = "anonymous",
        base: tuple[int, int] | None = None,
    ) -> None:
        assert (
            origin in ("anonymous", "served") if base is None else origin in ("shared", "private")
        )
        self.view = view
        self.address = address
        self.offset = offset
        self.origin = origin
        self.base = base

    def not_zero(self) -> list[Range]:
        """Where anything but zeros may be, without looking at the bytes."""
        size = len(self.view)
        everything = [(0, size)]
        if self.origin == "anonymous":
            found = pages.touched(self.address, size)
            return everything if found is None else found
        if self.origin == "served" or self.base is None:
            return everything
        data = pages.data_of(*self.base, size)
        if self.origin == "shared":
            return data
        changed = pages.changed(self.address, size)
        return everything if changed is None else pages.union(data, changed)

    def since_restore(self) -> list[Range]:
        """What changed since the restore or the start; more where the kernel does not tell.

        For a diff of a guest whose dirty pages were not tracked.
        """
        if self.origin == "private":
            changed = pages.changed(self.address, len(self.view))
            return [(0, len(self.view))] if changed is None else changed
        return self.not_zero()


class MemoryFile:
    """A memory file in the making; see :class:`Part` for publish and discard."""

    __slots__ = ("part", "written")

    def __init__(self, part: Part) -> None:
        self.part = part
        self.written: list[Range] = []  # parts of the file

    @property
    def written_bytes(self) -> int:
        return sum(end - start for start, end in self.written)

    def samples(self) -> list[tuple[int, int]]:
        """Of the pages written, some evenly among them: offset and CRC-32.

        Raises:
            HostError: they cannot be read again.
        """
        count = self.written_bytes // PAGE
        wanted = sorted({count * i // SAMPLES for i in range(SAMPLES)}) if count else []
        found: list[tuple[int, int]] = []
        before = 0  # pages in the ranges before this one
        try:
            for start, end in self.written:
                pages_here = (end - start) // PAGE
                while wanted and wanted[0] < before + pages_here:
                    offset = start + (wanted.pop(0) - before) * PAGE
                    found.append((offset, crc32(os.pread(self.part.fd, PAGE, offset))))
                before += pages_here
        except OSError as error:
            raise HostError.wrap(f"Cannot read {self.part.path}", error) from None
        return found

    def publish(self) -> None:
        self.part.publish()

    def discard(self) -> None:
        self.part.discard()


def prepare_full(path: str, size: int, sources: Iterable[Source]) -> MemoryFile:
    """All of guest memory, ``size`` bytes with what no source has as a hole.

    Raises:
        HostError: the file cannot be written; nothing of it is left.
    """
    file = MemoryFile(Part(path))
    try:
        is_sparse = _set_size(file.part, size, keep=False)
        for source in sources:
            ranges: Iterable[Range] = [(0, len(source.view))]
            if is_sparse:
                ranges = pages.without_zeros(source.view, source.not_zero())
            _copy(file, source, ranges)
    except BaseException:
        file.discard()
        raise
    return file


def prepare_diff(
    path: str, size: int, sources: Sequence[Source], dirty: Sequence[Iterable[Range]] | None
) -> MemoryFile:
    """The pages that changed, zeros among them; everything else is a hole.

    ``dirty`` has for each source its ranges; None where nobody kept count (then: what changed
    since the restore).  A file of ``size`` bytes that is there already is taken for the base: the
    pages are merged into it in place, after room for them was reserved.

    Raises:
        HostError: the file cannot be written; a new file is gone, one that was there unharmed
            unless the disk itself failed.
    """
    if dirty is None:
        dirty = [source.since_restore() for source in sources]
    plan = [list(ranges) for ranges in dirty]
    file = MemoryFile(Part(path, in_place=_is_regular_of(path, size)))
    try:
        _set_size(file.part, size, keep=True)
        if file.part.in_place:
            for source, ranges in zip(sources, plan, strict=True):
                reserve(file.part, [(source.offset + a, source.offset + b) for a, b in ranges])
        for source, ranges in zip(sources, plan, strict=True):
            _copy(file, source, ranges)
    except BaseException:
        file.discard()
        raise
    return file


def _set_size(part: Part, size: int, *, keep: bool) -> bool:
    """Make the file ``size`` bytes of holes, or only that long; whether it can have holes."""
    try:
        found = os.fstat(part.fd)
        if not stat.S_ISREG(found.st_mode):
            return False
        if part.in_place and not keep:
            os.ftruncate(part.fd, 0)
        os.ftruncate(part.fd, size)
    except OSError as error:
        raise HostError.wrap(f"Cannot write {part.path}", error) from None
    return True


def _is_regular_of(path: str, size: int) -> bool:
    try:
        found = os.stat(path)
    except OSError:  # nothing there, or the same error comes again when it is opened
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size


def reserve(part: Part, ranges: Iterable[Range]) -> None:
    """Have room for ``ranges`` of a file that is written in place.

    Raises:
        HostError: there is not enough; what is in the file is as before.
    """
    try:
        for start, end in ranges:
            os.posix_fallocate(part.fd, start, end - start)
    except OSError as error:
        raise HostError.wrap(f"Cannot write {part.path}", error) from None


def _copy(file: MemoryFile, source: Source, ranges: Iterable[Range]) -> None:
    write, view, offset = file.part.write, source.view, source.offset
    for start, end in ranges:
        write(view[start:end], offset + start)
        file.written.append((offset + start, offset + end))


def open_file(path: str, layout: Layout) -> int:
    """A descriptor of a memory file that is as long as ``layout`` says; close it after mapping.

    Its samples tell the file of another guest, and most of other moments.

    Raises:
        HostError: it cannot be opened.
        SnapshotError: it has another length, or is no memory file, or that of another snapshot.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise HostError.wrap(_FROM_FILE.removesuffix(": "), error) from None
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
        if size != layout.size:
            what = ""
            if os.pread(fd, len(state.MAGIC), 0) == state.MAGIC:
                what = ": it is a state file"
            raise SnapshotError(
                f"{_FROM_FILE}{path} has {size} bytes; the state says {layout.size}{what}"
            )
        _check_samples(fd, layout, path)
    except OSError as error:
        os.close(fd)
        raise HostError.wrap(f"{_FROM_FILE}{path}", error) from None
    except SnapshotError:
        os.close(fd)
        raise
    return fd


def _check_samples(fd: int, layout: Layout, path: str) -> None:
    for offset, _ in layout.samples:  # all at once, should they have to come from the disk
        os.posix_fadvise(fd, offset, PAGE, os.POSIX_FADV_WILLNEED)
    for offset, crc in layout.samples:
        if crc32(os.pread(fd, PAGE, offset)) != crc:
            raise SnapshotError(
                f"{_FROM_FILE}{path}: the page at {offset:#x} is not the one that was saved: the "
                "file is of another snapshot, or a diff that was not merged, or was changed"
            )


def map_range(fd: int, r: MemoryRange) -> mapping.Mapping:
    """A range of a memory file, private: the guest's writes stay its own.

    Takes the same time for any size.  The file must stay as it is while the mapping lives.

    Raises:
        HostError: it cannot be mapped.
    """
    return mapping.file(fd, r.size, offset=r.offset, shared=False)
