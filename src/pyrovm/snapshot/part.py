"""Files that appear whole or not at all.

A file is written without a name (O_TMPFILE) where the file system can do that, else under a name
of its own beside the target, ``.NAME.xxxxxxxx.pyrovm-part``; then it is renamed to the target.  Its
owner holds a flock on it: what has the name of a part and no owner was left by a process that was
killed, and whoever makes the next part in the folder removes it.
"""

from __future__ import annotations

import fcntl
import os
import stat

from pyrovm.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from _typeshed import ReadableBuffer

SUFFIX = ".pyrovm-part"
_CANNOT_BE_NAMELESS = (95, 21, 22, 2)  # EOPNOTSUPP; EISDIR, EINVAL, ENOENT from before it existed
_CANNOT_MAKE_HERE = (1, 13, 30)  # EPERM, EACCES, EROFS
_PIECE = 1 << 30  # one write(2) moves 2 GiB at most
_MODE = 0o600  # guest memory is nobody else's business


class Part:
    """A file in the making for ``path``; ``fd`` is open for reading and writing.

    Used up by :meth:`publish` or :meth:`discard`; as a context manager it is discarded unless it
    was published.  What is no regular file (a block device), or stands in a folder where nothing
    can be made, is written in place instead, and whatever is asked for ``in_place``.

    Raises:
        HostError: the file cannot be made.
    """

    def __init__(self, path: str, *, in_place: bool = False) -> None:
        self.path = os.path.realpath(path)  # a link stays one; its target is replaced
        self.in_place = False
        self._part = ""  # its own name, where it has one
        self._folder, self._name = os.path.split(self.path)
        remove_left_over(self._folder)
        try:
            old = self._stat_target()
            if in_place or (old is not None and not stat.S_ISREG(old.st_mode)):
                self.fd = self._open_in_place()
            else:
                self.fd = self._make(old)
        except OSError as error:
            raise HostError.wrap(f"Cannot write {path}", error) from None

    def _stat_target(self) -> os.stat_result | None:
        try:
            return os.stat(self.path)
        except FileNotFoundError:
            return None

    def _make(self, old: os.stat_result | None) -> int:
        try:
            fd = self._open_nameless()
            if fd < 0:
                fd = self._open_named()
        except OSError as error:
            if old is None or error.errno not in _CANNOT_MAKE_HERE:
                raise
            return self._open_in_place()
        if old is not None:
            os.fchmod(fd, stat.S_IMODE(old.st_mode))
            try:
                os.fchown(fd, old.st_uid, old.st_gid)
            except PermissionError:  # ours then, as is everything that we make
                pass
        return fd

    def _open_in_place(self) -> int:
        self.in_place = True
        return os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)

    def _open_nameless(self) -> int:
        if not os.path.exists("/proc/self/fd"):  # a jail: it could not be given a name later
            return -1
        try:
            fd = os.open(self._folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, _MODE)
        except OSError as error:
            if error.errno in _CANNOT_BE_NAMELESS:
                return -1
            raise
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd

    def _new_name(self) -> str:
        unique = os.urandom(4).hex()
        room = 255 - len(SUFFIX) - len(unique) - 3  # NAME_MAX
        name = os.fsdecode(os.fsencode(self._name)[:room])
        return os.path.join(self._folder, f".{name}.{unique}{SUFFIX}")

    def _open_named(self) -> int:
        while True:
            name = self._new_name()
            fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, _MODE)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_nlink:
                    self._part = name
                    return fd
            except BlockingIOError:
                pass
            os.close(fd)  # somebody took it for left over, between our two calls

    def write(self, data: ReadableBuffer, offset: int) -> None:
        """Write all of ``data`` at ``offset`` bytes.

        Raises:
            HostError: the disk is full, or as pwrite(2) failed.
        """
        view = memoryview(data).cast("B")
        try:
            while len(view):
                done = os.pwrite(self.fd, view[:_PIECE], offset)
                view = view[done:]
                offset += done
        except OSError as error:
            raise HostError.wrap(f"Cannot write {self.path}", error) from None

    def publish(self, *, sync: bool = True) -> None:
        """Give the file its name: from now on it is there, whole, also after a power failure.

        Raises:
            HostError: that failed; what was under the name before still is.
        """
        try:
            if sync:
                os.fsync(self.fd)
            if not self.in_place:
                if not self._part:
                    self._part = self._link()
                os.rename(self._part, self.path)
                self._part = ""
                if sync:
                    _sync_folder(self._folder)
        except OSError as error:
            raise HostError.wrap(f"Cannot write {self.path}", error) from None
        finally:
            self.discard()

    def _link(self) -> str:
        name = self._new_name()
        # Only with a folder for the source, which an absolute path ignores, does Python call
        # linkat(2), which follows the link.
        os.link(f"/proc/self/fd/{self.fd}", name, src_dir_fd=self.fd, follow_symlinks=True)
        return name

    def discard(self) -> None:
        """Remove what was written; nothing after :meth:`publish`."""
        if self._part:
            os.unlink(self._part)
            self._part = ""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Part:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.discard()


def remove_left_over(folder: str) -> list[str]:
    """Remove the parts in ``folder`` whose owner is gone; their paths."""
    removed: list[str] = []
    try:
        names = os.listdir(folder)
    except OSError:  # whoever makes a file there hears why it cannot
        return removed
    for name in names:
        if name.startswith(".") and name.endswith(SUFFIX):
            path = os.path.join(folder, name)
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            except OSError:  # gone meanwhile, or not ours to judge
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path)
                removed.append(path)
            except OSError:  # in use, gone, or not ours
                pass
            finally:
                os.close(fd)
    return removed


def _sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != 22:  # EINVAL: this file system has nothing to write down for a folder
            raise
    finally:
        os.close(fd)
