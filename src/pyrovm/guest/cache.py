"""Where things are kept between runs, and how several processes share that place.

Everything lies below one folder (:func:`root`) and can be made again: kernels, images, snapshots
of the lab, downloaded packages.  Two rules keep it sound:

* What is finished appears by one ``rename``; what is being made lies in a *scratch* folder.
* Who uses something holds a ``flock`` on it.  The kernel drops the lock of a process that dies,
  however it dies, so :func:`sweep` can tell what is left over from what is in use.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pyrovm.guest.cache_root import cache_root

LOCK_NAME = ".lock"


def root() -> Path:
    """The cache folder: ``$PYROVM_CACHE``, or ``pyrovm`` in the user's cache folder; it exists."""
    path = Path(cache_root())
    path.mkdir(parents=True, exist_ok=True)
    return path


def folder(*parts: str) -> Path:
    """A folder below the cache; it exists."""
    path = root().joinpath(*parts)
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def locked(
    path: Path, *, shared: bool = False, on_wait: Callable[[], None] | None = None
) -> Iterator[None]:
    """Hold the lock file ``path``; ``on_wait`` is called once where another process has it."""
    mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait:
                on_wait()
            fcntl.flock(descriptor, mode)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def unless_locked(path: Path) -> Iterator[bool]:
    """Hold ``path`` alone if nobody has it; the value says whether that worked."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def scratch(parent: Path, before: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """A fresh folder in ``parent``, locked while in use and removed at the end.

    What killed processes left in ``parent`` is removed first (:func:`sweep`, with ``before``).
    """
    sweep(parent, before)
    with locked(parent / LOCK_NAME):  # nobody sweeps between mkdir and flock
        path = parent / f"tmp-{secrets.token_hex(4)}"
        path.mkdir(mode=0o700)
        stack = contextlib.ExitStack()
        stack.enter_context(locked(path / LOCK_NAME))
    with stack:
        try:
            yield path
        finally:
            remove(path)


def sweep(parent: Path, before: Callable[[Path], None] | None = None) -> list[Path]:
    """Remove the scratch folders in ``parent`` whose owner is gone; ``before`` each, if given."""
    swept = []
    with locked(parent / LOCK_NAME):
        for path in sorted(parent.glob("tmp-*")):
            with (
                contextlib.suppress(FileNotFoundError),  # its owner removes it just now
                unless_locked(path / LOCK_NAME) as free,
            ):
                if free:
                    if before:
                        before(path)
                    remove(path)
                    swept.append(path)
    return swept


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, also what is not writable; or nothing."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
        return
    for top, names, _ in os.walk(path):
        for name in names:
            inner = os.path.join(top, name)
            if not os.path.islink(inner):
                os.chmod(inner, 0o700)
    shutil.rmtree(path, ignore_errors=True)


def oldest_first(paths: Iterable[Path]) -> list[Path]:
    """Sort by time of last use, which is the modification time (see :func:`touch`)."""
    known = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # another process removed it meanwhile
            known.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(known)]


def touch(path: Path) -> None:
    """Note that ``path`` is in use now; another process may have removed it."""
    with contextlib.suppress(FileNotFoundError):
        os.utime(path)


def size_on_disk(path: Path) -> int:
    """Bytes that a file or folder takes on the disk; holes take none."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_blocks * 512
    total = 0
    for top, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(top, name)).st_blocks * 512
    return total
