"""A folder of the host that the user passed with -v, and what can be done with names in it.

Every path is resolved by the kernel beneath the folder (openat2(2), RESOLVE_BENEATH): neither ".."
nor a symbolic link leads out of it.  The last component is never followed: the guest resolves links
itself.
"""

from __future__ import annotations

import os
from errno import EAGAIN, EINVAL
from struct import Struct

from pyrovm.errors import ConfigError, HostError
from pyrovm.host import libc
from pyrovm.unikernel.guest_socket import fail

MODES = 0o777  # a guest makes nothing set-user-ID on the host
TRIES = 16  # while somebody renames what is on the way: openat2 says EAGAIN

SYS_RENAMEAT2, SYS_OPENAT2 = 316, 437
RESOLVE_NO_MAGICLINKS, RESOLVE_BENEATH = 0x02, 0x08
RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
RENAME_KNOWN = 3  # RENAME_NOREPLACE, RENAME_EXCHANGE
_OPEN_HOW = Struct("<QQQ")  # flags, mode, resolve


class Share:
    """One -v: a folder of the host, and where the guest has it."""

    __slots__ = ("fd", "guest", "host", "read_only")

    def __init__(self, text: str) -> None:
        """Parse ``HOST:GUEST[:ro]`` and open the folder.

        Raises:
            ConfigError: it is malformed.
            HostError: there is no such folder.
        """
        words = text.split(":")
        mode = words.pop() if len(words) == 3 else "rw"
        if len(words) != 2 or mode not in ("ro", "rw") or not words[0]:
            raise ConfigError(f"-v {text}: HOST_FOLDER:GUEST_FOLDER[:ro] is needed")
        self.host, self.guest = words
        self.read_only = mode == "ro"
        parts = self.guest.split("/")[1:]
        if not self.guest.startswith("/") or self.guest == "/" or {"", ".", ".."} & set(parts):
            raise ConfigError(
                f"-v {text}: {self.guest!r} is no absolute path of a folder below / in the guest"
            )
        try:
            self.fd = os.open(self.host, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise HostError.wrap(f"-v {text}: cannot open the folder {self.host}", error) from None

    def close(self) -> None:
        """Close the folder."""
        os.close(self.fd)

    def open(self, path: bytes, flags: int, mode: int = 0) -> int:
        """openat2(2) beneath the folder; the descriptor.

        Raises:
            OSError: as it says; EXDEV for what lies outside.
        """
        name = bytearray(path + b"\0")
        how = bytearray(_OPEN_HOW.pack(flags | os.O_CLOEXEC, mode, RESOLVE))
        for attempt in range(TRIES):
            try:
                return libc.syscall(
                    SYS_OPENAT2, self.fd, libc.address_of(name), libc.address_of(how), len(how)
                )
            except OSError as error:
                if error.errno != EAGAIN or attempt == TRIES - 1:
                    raise
        raise fail(EAGAIN)

    def place(self, path: bytes) -> Place:
        """Where the last component of a path is, for ``with``.

        Raises:
            OSError: it has none of its own, or there is no such folder.
        """
        folder, _, name = path.rpartition(b"/")
        if name in (b"", b".", b".."):
            raise fail(EINVAL)
        return Place(self.open(folder or b".", os.O_PATH | os.O_DIRECTORY), name)

    def look(self, path: bytes) -> os.stat_result:
        """lstat(2)."""
        fd = self.open(path, os.O_PATH | os.O_NOFOLLOW)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def readlink(self, path: bytes) -> bytes:
        """readlink(2)."""
        with self.place(path) as (folder, name):
            return os.readlink(name, dir_fd=folder)

    def mkdir(self, path: bytes, mode: int) -> None:
        """mkdir(2)."""
        with self.place(path) as (folder, name):
            os.mkdir(name, mode & MODES, dir_fd=folder)

    def unlink(self, path: bytes, *, is_folder: bool) -> None:
        """unlink(2) or rmdir(2)."""
        with self.place(path) as (folder, name):
            if is_folder:
                os.rmdir(name, dir_fd=folder)
            else:
                os.unlink(name, dir_fd=folder)

    def symlink(self, path: bytes, target: bytes) -> None:
        """symlink(2)."""
        with self.place(path) as (folder, name):
            os.symlink(target, name, dir_fd=folder)

    def link(self, path: bytes, new: bytes) -> None:
        """link(2)."""
        with self.place(path) as (folder, name), self.place(new) as (new_folder, new_name):
            os.link(name, new_name, src_dir_fd=folder, dst_dir_fd=new_folder, follow_symlinks=False)

    def rename(self, path: bytes, new: bytes, flags: int) -> None:
        """renameat2(2).

        Raises:
            OSError: EINVAL for flags that are not known here, and as it says.
        """
        if flags & ~RENAME_KNOWN:
            raise fail(EINVAL)
        with self.place(path) as (folder, name), self.place(new) as (new_folder, new_name):
            old, to = bytearray(name + b"\0"), bytearray(new_name + b"\0")
            libc.syscall(
                SYS_RENAMEAT2, folder, libc.address_of(old), new_folder, libc.address_of(to), flags
            )

    def chmod(self, path: bytes, mode: int) -> None:
        """chmod(2)."""
        with self.itself(path) as name:
            os.chmod(name, mode & MODES)

    def utimens(self, path: bytes, atime_ns: int, mtime_ns: int) -> None:
        """utimensat(2)."""
        with self.itself(path) as name:
            os.utime(name, ns=(atime_ns, mtime_ns))

    def itself(self, path: bytes) -> Itself:
        """A name for the very file that is there now, for ``with``."""
        return Itself(self.open(path, os.O_PATH | os.O_NOFOLLOW))


class Place:
    """A folder's descriptor, closed at the end, and a name in it."""

    def __init__(self, folder: int, name: bytes) -> None:
        self._folder = folder
        self._name = name

    def __enter__(self) -> tuple[int, bytes]:
        return self._folder, self._name

    def __exit__(self, *_: object) -> None:
        os.close(self._folder)


class Itself:
    """An O_PATH descriptor, closed at the end, as a path of /proc that leads to just that file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> str:
        return f"/proc/self/fd/{self._fd}"

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
