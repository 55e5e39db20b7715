"""Guest memory into a file and back.

The file is the guest's RAM and nothing else: the ranges of a :class:`~.layout.Layout` one behind
the other, pages that are zero as holes; Firecracker's is the same.  A diff has the pages that
changed at those very places and holes everywhere else, and is as long as the full file.
"""

from __future__ import annotations

import os
import stat
from zlib import crc32

from pyrovm.errors import HostError, SnapshotError
from pyrovm.host import mapping
from pyrovm.snapshot import pages, state
from pyrovm.snapshot.part import Part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyrovm.snapshot.layout import Layout, MemoryRange
    from pyrovm.snapshot.pages import Range

PAGE = pages.PAGE
SAMPLES = 16
_LOAD = "Failed to load guest memory: "
_FROM_FILE = f"{_LOAD}Error creating guest memory from file: Failed to load guest memory: "


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
