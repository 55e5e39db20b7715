"""Programs' VMs by name: what is known of them, and whether they live.

Each has two files in a folder of its user's: NAME.json, what is known of it, on which its process
holds a record lock (fcntl(2)) as long as it lives, and NAME.sock, where it takes requests.  The
kernel drops the lock with the process, whatever ends it, and forked processes do not share it.
"""

from __future__ import annotations

import _socket
import fcntl
import json
import os
import time
from errno import EACCES, EAGAIN
from struct import Struct

from pyrovm.errors import ConfigError, HostError
from pyrovm.launcher import place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Facts = dict[str, Any]

NAME_MAX = 64
OTHERS = frozenset("-_.")  # what a name may have besides letters and digits
FACTS, SOCKET = ".json", ".sock"
FACTS_MAX = 1 << 20
SETTLE_S = 0.5  # for somebody else who takes the name, or clears what is left of it
_LOCK = Struct("@hhqqi4x")  # struct flock: type, whence, start, length, pid


def check_name(name: str, field: str = "--id") -> str:
    """The name.

    Raises:
        ConfigError: it cannot be one.
    """
    plain = all(letter.isascii() and (letter.isalnum() or letter in OTHERS) for letter in name)
    if not (plain and 0 < len(name) <= NAME_MAX and name[0].isalnum()):
        raise ConfigError(
            f"{field}: {name!r} given; 1 to {NAME_MAX} letters, digits, '-', '_' and '.' are "
            "allowed, and a letter or digit comes first"
        )
    return name


def folder() -> str:
    """Where the files are."""
    return f"{place.folder()}/vms"


class Name:
    """A name that this process has taken; ``socket`` is where it takes requests (datagrams)."""

    def __init__(self, name: str, facts: Facts, field: str = "--id") -> None:
        """Take it, also where it is left of a process that was killed.

        Raises:
            ConfigError: it cannot be a name, or a VM of this name lives.
            HostError: the files cannot be made.
        """
        self.name = check_name(name, field)
        self._facts = {"name": name, **facts, "pid": os.getpid()}
        place.make_folder()
        self._stem = f"{folder()}/{name}"
        try:
            os.makedirs(folder(), 0o700, exist_ok=True)
            self.fd = _take(self._stem, field)
        except OSError as error:
            raise HostError.wrap(f"{field} {name}: {self._stem}{FACTS}", error) from None
        try:
            os.ftruncate(self.fd, 0)
            self.socket = self._listen()
            self._write()
        except OSError as error:
            self.close()
            raise HostError.wrap(f"{field} {name}: {self._stem}{SOCKET}", error) from None

    def _listen(self) -> _socket.socket:
        made = _socket.socket(
            _socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
        )
        # Who has sent something is what the kernel says with it.
        made.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, 1)
        _unlink(self._stem + SOCKET)
        mask = os.umask(0o177)
        try:
            _at(self.name, made.bind)
        finally:
            os.umask(mask)
        return made

    def tell(self, **facts: Any) -> None:
        """Have more known of it."""
        self._facts.update(facts)
        self._write()

    def _write(self) -> None:
        data = json.dumps(self._facts).encode()
        os.pwrite(self.fd, data + b"\n", 0)
        os.ftruncate(self.fd, len(data) + 1)

    def close(self) -> None:
        """Give it back; in a forked process nothing: there it is the parent's."""
        if self._facts["pid"] != os.getpid():
            return
        _unlink(self._stem + SOCKET)
        _unlink(self._stem + FACTS)
        os.close(self.fd)


def _take(stem: str, field: str) -> int:
    """The locked file of facts.

    Raises:
        ConfigError: it is another's, who lives.
        OSError: it cannot be made.
    """
    deadline = time.monotonic() + SETTLE_S
    while True:
        fd = os.open(stem + FACTS, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if _lock(fd) and _is_at(fd, stem + FACTS):
                return fd
            pid, facts = _holder(fd), _read(fd)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        if pid and (facts.get("pid") == pid or time.monotonic() > deadline):
            raise ConfigError(
                f"{field}: {os.path.basename(stem)!r} given; a VM of that name runs (pid {pid}): "
                "another name is needed"
            )
        time.sleep(0.001)


def _lock(fd: int) -> bool:
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (EAGAIN, EACCES):
            return False
        raise
    return True


def _holder(fd: int) -> int:
    """The process that holds the lock; 0 where none does."""
    asked = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = _LOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    return 0 if kind == fcntl.F_UNLCK else int(pid)


def _is_at(fd: int, path: str) -> bool:
    """Whether the file is still there under its name."""
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(fd), there)


def _read(fd: int) -> Facts:
    """What is known; nothing where it is being written."""
    try:
        facts = json.loads(os.pread(fd, FACTS_MAX, 0))
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _at(name: str, call: Callable[[str], None]) -> None:
    """Call with the socket's path, in a form that is never too long for an address (unix(7))."""
    fd = os.open(folder(), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        call(f"/proc/self/fd/{fd}/{name}{SOCKET}")
    finally:
        os.close(fd)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def find(name: str) -> Facts | None:
    """What is known of the VM of this name, if it lives; what is left of a dead one is removed.

    Not for the process that has the name: to close any descriptor of the file drops its lock.

    Raises:
        HostError: the files cannot be read.
    """
    stem = f"{folder()}/{name}"
    try:
        fd = os.open(stem + FACTS, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError.wrap(f"{stem}{FACTS}", error) from None
    try:
        pid = _holder(fd)
        if pid:
            facts = _read(fd)
            return facts if facts.get("pid") == pid else None  # or it is about to begin or to end
        if _lock(fd) and _is_at(fd, stem + FACTS):
            _unlink(stem + SOCKET)
            _unlink(stem + FACTS)
        return None
    finally:
        os.close(fd)


def living() -> list[Facts]:
    """What is known of all that live, by name.

    Raises:
        HostError: the files cannot be read.
    """
    try:
        names = sorted(
            entry.removesuffix(FACTS) for entry in os.listdir(folder()) if entry.endswith(FACTS)
        )
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HostError.wrap(folder(), error) from None
    return [facts for facts in map(find, names) if facts is not None]


def connect(name: str, timeout: float) -> _socket.socket:
    """A socket for requests to the VM of this name; ``timeout`` in seconds is for each.

    Raises:
        OSError: it has ended.
    """
    made = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    made.settimeout(timeout)
    try:
        _at(name, made.connect)
    except BaseException:
        made.close()
        raise
    return made
