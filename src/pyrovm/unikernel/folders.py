"""PV_FILE: the guest's operations on folders of the host (share.py), every argument checked.

Only regular files and folders can be opened; what else there is can be looked at.
"""

from __future__ import annotations

import os
import stat
from errno import (
    EACCES,
    EBADF,
    EFAULT,
    EINVAL,
    EIO,
    ELOOP,
    EMFILE,
    ENAMETOOLONG,
    ENOENT,
    EROFS,
)
from struct import Struct

from pyrovm.abi import libos as abi
from pyrovm.errors import GuestError
from pyrovm.host import libc
from pyrovm.unikernel.guest_socket import fail
from pyrovm.unikernel.share import MODES, Share

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyrovm.unikernel.calls import Calls

OPEN_MAX = 4096  # files of one guest
KNOWN_FLAGS = (
    os.O_ACCMODE
    | os.O_CREAT
    | os.O_EXCL
    | os.O_TRUNC
    | os.O_APPEND
    | os.O_DIRECTORY
    | os.O_NOFOLLOW
    | os.O_SYNC
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGING = frozenset(
    (
        abi.PV_FILE_MKDIR,
        abi.PV_FILE_UNLINK,
        abi.PV_FILE_RENAME,
        abi.PV_FILE_SYMLINK,
        abi.PV_FILE_CHMOD,
        abi.PV_FILE_UTIMENS,
        abi.PV_FILE_LINK,
    )
)
AT_REMOVEDIR = 0x200
LISTING_MAX = 32768  # bytes of one PV_FILE_READDIR
OFFSET_MAX = (1 << 63) - 1
SYS_GETDENTS64 = 217
_STAT = Struct("<3Q4I3q")  # struct pv_stat
_STAT_AT = abi.pv_file_args.stat.offset


class Folders:
    """Serves PV_FILE for one VM."""

    def __init__(self, calls: Calls, shares: Sequence[Share]) -> None:
        self._calls = calls
        self._shares = shares
        self._open: dict[int, int] = {}  # handle to descriptor
        self._on_paths: dict[int, Callable[[Share, abi.pv_file_args], int]] = {
            abi.PV_FILE_OPEN: self._open_file,
            abi.PV_FILE_STAT: self._stat,
            abi.PV_FILE_READLINK: self._readlink,
        }
        self._on_files: dict[int, Callable[[int, abi.pv_file_args], int]] = {
            abi.PV_FILE_FSTAT: self._fstat,
            abi.PV_FILE_READDIR: self._readdir,
            abi.PV_FILE_TRUNCATE: self._truncate,
            abi.PV_FILE_SYNC: self._sync,
        }
        calls.handlers[abi.PV_FILE] = self._call

    @property
    def open_count(self) -> int:
        """How many files and folders are open."""
        return len(self._open)

    def branch(self) -> None:
        """In a forked process: read folders from places of our own.  Files have no place here.

        Raises:
            OSError: there are no descriptors left.
        """
        for fd in self._open.values():
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                again = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
                os.dup2(again, fd, inheritable=False)
                os.close(again)

    def _call(self, operation: int, handle: int, gpa: int, length: int, *_: int) -> int:
        if length != abi.pv_file_args.SIZE:
            return -EINVAL
        try:
            live = self._calls.writable(gpa, length)
            args = abi.pv_file_args(bytearray(live))
            result = self._dispatch(operation, handle, args)
            live[_STAT_AT:] = args.view[_STAT_AT:]
        except GuestError:
            return -EFAULT
        except OverflowError:
            return -EINVAL
        except OSError as error:
            return -(error.errno or EIO)
        return result

    def _dispatch(self, operation: int, handle: int, args: abi.pv_file_args) -> int:
        on_file = self._on_files.get(operation)
        if on_file is not None:
            fd = self._open.get(handle)
            return -EBADF if fd is None else on_file(fd, args)
        if operation >= abi.PV_FILE_OPERATIONS:
            return -EINVAL
        if handle >= len(self._shares):
            return -EBADF
        share = self._shares[handle]
        if operation in CHANGING:
            return self._change(operation, share, args)
        return self._on_paths[operation](share, args)

    def _text(self, gpa: int, length: int) -> bytes:
        """A path, or the target of a link.

        Raises:
            OSError: it is empty, too long, or has a NUL in it.
        """
        if length >= abi.PV_PATH_MAX:
            raise fail(ENAMETOOLONG)
        if not length:
            raise fail(ENOENT)
        text = self._calls.memory.read(gpa, length)
        if b"\0" in text:
            raise fail(EINVAL)
        return text

    def _path(self, args: abi.pv_file_args) -> bytes:
        return self._text(args.path_gpa, args.path_length)

    def _second(self, args: abi.pv_file_args) -> bytes:
        return self._text(args.path2_gpa, args.path2_length)

    # --------------------------------------------------------------------------------- open files

    def _open_file(self, share: Share, args: abi.pv_file_args) -> int:
        flags = args.flags & KNOWN_FLAGS | os.O_NOFOLLOW
        if flags & WRITING and share.read_only:
            return -EROFS
        if len(self._open) >= OPEN_MAX:
            return -EMFILE
        path = self._path(args)
        try:
            # Opening a device may do something: look first.
            mode = share.look(path).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                return -ELOOP if stat.S_ISLNK(mode) else -EACCES
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
        wanted = args.mode & MODES if flags & os.O_CREAT else 0
        fd = share.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY, wanted)
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # exchanged meanwhile
            os.close(fd)
            return -EACCES
        return self._add(fd)

    def _add(self, fd: int) -> int:
        def close() -> None:
            del self._open[handle]
            os.close(fd)

        try:
            handle = self._calls.add_handle(fd, close)
        except GuestError:
            os.close(fd)
            return -EMFILE
        self._open[handle] = fd
        return handle

    def _fstat(self, fd: int, args: abi.pv_file_args) -> int:
        _give(os.fstat(fd), args)
        return 0

    def _readdir(self, fd: int, args: abi.pv_file_args) -> int:
        if args.offset > OFFSET_MAX:
            return -EINVAL
        room = self._calls.writable(args.gpa, min(args.length, LISTING_MAX))
        entries = bytearray(len(room))
        if not entries:
            return -EINVAL
        os.lseek(fd, args.offset, os.SEEK_SET)
        count = libc.syscall(SYS_GETDENTS64, fd, libc.address_of(entries), len(entries))
        room[:count] = entries[:count]
        return count

    def _truncate(self, fd: int, args: abi.pv_file_args) -> int:
        if args.offset > OFFSET_MAX:
            return -EINVAL
        os.ftruncate(fd, args.offset)
        return 0

    def _sync(self, fd: int, _args: abi.pv_file_args) -> int:
        os.fsync(fd)
        return 0

    # -------------------------------------------------------------------------------------- names

    def _stat(self, share: Share, args: abi.pv_file_args) -> int:
        _give(share.look(self._path(args)), args)
        return 0

    def _readlink(self, share: Share, args: abi.pv_file_args) -> int:
        room = self._calls.writable(args.gpa, min(args.length, abi.PV_PATH_MAX))
        target = share.readlink(self._path(args))[: len(room)]
        room[: len(target)] = target
        return len(target)

    def _change(self, operation: int, share: Share, args: abi.pv_file_args) -> int:
        if share.read_only:
            return -EROFS
        path = self._path(args)
        if operation == abi.PV_FILE_MKDIR:
            share.mkdir(path, args.mode)
        elif operation == abi.PV_FILE_UNLINK:
            share.unlink(path, is_folder=bool(args.flags & AT_REMOVEDIR))
        elif operation == abi.PV_FILE_RENAME:
            share.rename(path, self._second(args), args.flags)
        elif operation == abi.PV_FILE_SYMLINK:
            share.symlink(path, self._second(args))
        elif operation == abi.PV_FILE_CHMOD:
            share.chmod(path, args.mode)
        elif operation == abi.PV_FILE_UTIMENS:
            share.utimens(path, args.atime_ns, args.mtime_ns)
        else:
            share.link(path, self._second(args))
        return 0


def _give(found: os.stat_result, args: abi.pv_file_args) -> None:
    _STAT.pack_into(
        args.view,
        _STAT_AT,
        found.st_ino,
        found.st_size,
        found.st_blocks,
        found.st_mode,
        min(found.st_nlink, 0xFFFFFFFF),
        found.st_uid,
        found.st_gid,
        found.st_atime_ns,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )
