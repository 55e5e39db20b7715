"""A diff's memory file merged into the one that it was taken after."""

from __future__ import annotations

import os

from pyrovm.errors import HostError, SnapshotError
from pyrovm.snapshot import memory, pages, state
from pyrovm.snapshot.part import Part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyrovm.snapshot.pages import Range

_CANNOT_COPY_SO = (18, 22, 38, 95)  # EXDEV, EINVAL, ENOSYS, EOPNOTSUPP
_PIECE = 8 << 20


def rebase(
    base: str, diff: str, *, output: str | None = None, written: Sequence[Range] | None = None
) -> list[Range]:
    """Merge ``diff`` into ``base``, or both into a new file ``output``; the parts it had.

    ``written`` are those parts as the diff's state file has them; without it they are where the
    diff has no holes.  In place, a merge that was interrupted is completed by another one.

    Raises:
        HostError: a file cannot be read or written; without room for all of it the base is as it
            was.
        SnapshotError: the files do not go together.
    """
    diff_fd = _open(diff)
    try:
        size = os.lseek(diff_fd, 0, os.SEEK_END)
        parts = list(written) if written is not None else _data_of(diff_fd, size, diff)
        if output is None:
            _check_size(base, size, diff)
            target = Part(base, in_place=True)
        else:
            target = Part(output)
        with target:
            if output is None:
                memory.reserve(target, parts)
            else:
                _start_with(target, base, size, diff)
            _copy(diff_fd, target, parts, diff)
            target.publish()
    finally:
        os.close(diff_fd)
    return parts


def _open(path: str) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError.wrap(path, error) from None
    try:
        if os.pread(fd, len(state.MAGIC), 0) == state.MAGIC:
            raise SnapshotError(f"{path}: a state file, not a memory file")
    except OSError as error:
        os.close(fd)
        raise HostError.wrap(path, error) from None
    except SnapshotError:
        os.close(fd)
        raise
    return fd


def _data_of(fd: int, size: int, path: str) -> list[Range]:
    parts = pages.data_of(fd, 0, size)
    if parts == [(0, size)]:
        raise SnapshotError(
            f"{path}: no holes; a copy that lost them, or the file of a full snapshot, would "
            "overwrite all of the base: the diff's state file tells its parts (--state)"
        )
    return parts


def _check_size(base: str, size: int, diff: str) -> None:
    fd = _open(base)
    try:
        found = os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.close(fd)
    if found != size:
        raise SnapshotError(f"{base} has {found} bytes, {diff} {size}: not of one guest")


def _start_with(target: Part, base: str, size: int, diff: str) -> None:
    _check_size(base, size, diff)
    base_fd = _open(base)
    try:
        os.ftruncate(target.fd, size)
        _copy(base_fd, target, pages.data_of(base_fd, 0, size), base)
    except OSError as error:
        raise HostError.wrap(f"Cannot write {target.path}", error) from None
    finally:
        os.close(base_fd)


def _copy(source: int, target: Part, parts: Iterable[Range], path: str) -> None:
    """Copy within the kernel where it can, which shares blocks where the file system does that."""
    in_kernel = True
    for start, end in parts:
        while start < end:
            count = 0
            if in_kernel:
                try:
                    count = os.copy_file_range(source, target.fd, end - start, start, start)
                except OSError as error:
                    if error.errno not in _CANNOT_COPY_SO:
                        raise HostError.wrap(f"Cannot write {target.path}", error) from None
                    in_kernel = False
            if not in_kernel:
                data = _read(source, start, min(end - start, _PIECE), path)
                target.write(data, start)
                count = len(data)
            if count == 0:
                raise SnapshotError(f"{path}: ends at {start}; its state says {end}")
            start += count


def _read(fd: int, offset: int, size: int, path: str) -> bytes:
    try:
        return os.pread(fd, size, offset)
    except OSError as error:
        raise HostError.wrap(path, error) from None
