"""The daemon's life: one for each user, which a lock sees to, and a socket that is its own."""

from __future__ import annotations

import _socket
import fcntl
import os

from pyrovm.errors import HostError
from pyrovm.launcher import place
from pyrovm.launcher.server import BACKLOG, Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyrovm.launcher.child import Entry

READY = b"ready\n"  # on standard output, when clients can connect
RUNS_ALREADY = b"runs already\n"


class RunsAlready(HostError):
    """Another launcher has the lock."""


class Claim:
    """The lock and the listening socket of this user's launcher.

    The lock is the kernel's: it is gone with the process that holds it, and whoever has it next
    takes away the socket that was left.
    """

    def __init__(self) -> None:
        """Take them.

        Raises:
            RunsAlready: another launcher has them.
            HostError: the folder cannot be used.
        """
        folder = place.make_folder()
        self.path = f"{folder}/{place.SOCKET}"
        lock = f"{folder}/{place.LOCK}"
        try:
            self._lock = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise RunsAlready(f"a launcher runs already: {self.path}") from None
        except OSError as error:
            raise HostError.wrap(f"Cannot lock {lock}", error) from None
        self.listener = _socket.socket(
            _socket.AF_UNIX,
            _socket.SOCK_SEQPACKET | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC,
        )
        try:
            self._bind()
        except OSError as error:
            self.listener.close()
            os.close(self._lock)
            raise HostError.wrap(f"Cannot listen on {self.path}", error) from None

    def _bind(self) -> None:
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass
        before = os.umask(0o177)
        try:
            self.listener.bind(self.path)
        finally:
            os.umask(before)
        self.listener.listen(BACKLOG)

    def release(self) -> None:
        """Give them up; a client that has connected and is not served sees the end."""
        try:
            os.unlink(self.path)
        except FileNotFoundError:  # somebody has cleaned up
            pass
        self.listener.close()
        os.close(self._lock)


def detach() -> None:
    """Go on in a process of its own session; whoever has started us sees its child end."""
    if os.fork():
        os._exit(0)
    os.setsid()


def serve(
    load: Callable[[], object],
    entries: Mapping[str, Entry],
    prepare: Callable[[], object],
    *,
    pool: int,
    limit: int,
    idle: float,
    any_cgroup: bool,
    announce: bool,
) -> None:
    """Be the launcher; with ``announce`` say READY on standard output, and be silent then.

    Raises:
        RunsAlready, HostError: it cannot be.
    """
    claim = Claim()
    load()
    os.chdir("/")  # the caller's folder may be removed or unmounted
    server = Server(
        claim.listener,
        entries,
        prepare,
        pool=pool,
        limit=limit,
        idle=idle,
        any_cgroup=any_cgroup,
    )
    if announce:
        os.write(1, READY)
        quiet()
    server.run()
    claim.release()


def quiet() -> None:
    """Standard streams to nowhere: whoever has started us need not wait for their end."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    os.close(null)
