"""The caller's side of the helper: one for each process, started when it is first needed.

Safe for threads; a process forked from the caller gets a helper of its own.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import fcntl
import os
import select
import signal
import socket
import sys
import threading
from pathlib import Path

from pyrovm.errors import HostError
from pyrovm.programs import wire
from pyrovm.programs.plan import library_os

ENTRY = (
    "import sys; sys.path.insert(0, {root!r}); sys.path += {packages!r}; "
    "from pyrovm.programs.zygote import main; main({libos!r})"
)
START_S = 30.0  # for an interpreter to start, on a busy machine
END_S = 5.0
RESET = (signal.SIGCHLD, signal.SIGIO, signal.SIGINT, signal.SIGTERM)  # the caller may ignore them


class Helper:
    """A running helper process."""

    def __init__(self) -> None:
        """Start it.

        Raises:
            HostError: it does not start; with what it said on standard error.
        """
        self.identity = identity()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.ExitStack() as stack:
            stack.callback(theirs.close)

            def owned(fd: int) -> int:
                stack.callback(os.close, fd)
                return fd

            null = owned(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
            words = owned(os.memfd_create("helper-stderr", os.MFD_CLOEXEC))
            caller = owned(os.pidfd_open(os.getpid()))
            given = (null, null, words, theirs.fileno(), caller)
            # First out of the way: the number of one may be the place of another.
            moved = [owned(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, len(given))) for fd in given]
            root = str(Path(__file__).resolve().parent.parent.parent)
            packages = [path for path in sys.path if path.endswith("-packages")]  # for Unicorn
            entry = ENTRY.format(root=root, packages=packages, libos=library_os())
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", "-c", entry],
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, to) for to, fd in enumerate(moved)],
                setsid=True,  # Ctrl-C is for the caller, who decides
                setsigmask=[],
                setsigdef=RESET,
            )
            theirs.close()
            self._control.settimeout(START_S)
            try:
                is_ready = self._control.recv(len(wire.READY)) == wire.READY
            except OSError:
                is_ready = False
            self._control.settimeout(None)
            if not is_ready:
                self.end()
                said = os.pread(words, 4000, 0).decode(errors="replace").strip()
                raise HostError(f"The helper process does not start: {said or 'it says nothing'}")

    def request(self, streams: tuple[int, int, int]) -> socket.socket:
        """Have a VM's process made for a program with these streams; the channel to it.

        Raises:
            ConnectionError: the helper is gone.
            OSError: one of the streams is closed.
        """
        channel, theirs = socket.socketpair()
        try:
            with theirs:
                fds = array.array("i", [theirs.fileno(), *streams])
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)]
                self._control.sendmsg([wire.PASS], rights)
        except BaseException:
            channel.close()
            raise
        return channel

    def forget(self) -> None:
        """In a forked process: it is the parent's."""
        self._control.close()

    def end(self) -> None:
        """Let it end, and all its VMs with it."""
        self._control.close()
        try:
            ended = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if not select.select([ended], [], [], END_S)[0]:
                signal.pidfd_send_signal(ended, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ChildProcessError, ProcessLookupError):  # whoever waits for all has waited for it
            pass
        finally:
            os.close(ended)


def identity() -> tuple[object, ...]:
    """Whose rights this process has."""
    return os.getresuid(), os.getresgid()


class Helpers:
    """The helper of this process, and the channels to its VMs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._helper: Helper | None = None
        self._channels: set[socket.socket] = set()

    @property
    def pid(self) -> int | None:
        """Of the helper, if it runs."""
        return self._helper.pid if self._helper else None

    def open(self, streams: tuple[int, int, int]) -> socket.socket:
        """A channel to a new VM's process; to be closed by :meth:`close`.

        Raises:
            HostError: there is no helper to be had.
            OSError: one of the streams is closed.
        """
        for is_last in (False, True):
            with self._lock:
                if self._helper is not None and self._helper.identity != identity():
                    self._helper.end()  # it still may what this process has given up
                    self._helper = None
                if self._helper is None:
                    self._helper = Helper()
                helper = self._helper
            try:
                channel = helper.request(streams)
            except ConnectionError as error:
                self._replace(helper)
                if is_last:
                    raise HostError.wrap("The helper process ends at once", error) from None
                continue
            self._channels.add(channel)
            return channel
        raise AssertionError

    def adopt(self, channel: socket.socket) -> None:
        """Another channel to a VM; to be closed by :meth:`close`."""
        self._channels.add(channel)

    def _replace(self, helper: Helper) -> None:
        """A helper that is gone: start another next time."""
        with self._lock:
            if self._helper is helper:
                self._helper = None
                helper.end()

    def shut(self, channel: socket.socket) -> None:
        """Kill the VM, if it still runs; the channel remains to be closed.

        A process forked from ours may hold the channel too, so closing it would not do.
        """
        with contextlib.suppress(OSError):  # closed, or the other end is gone already
            channel.shutdown(socket.SHUT_RDWR)

    def close(self, channel: socket.socket) -> None:
        """Close a channel; a VM that still runs is killed."""
        self.shut(channel)
        self._channels.discard(channel)
        channel.close()

    def end(self) -> None:
        """At the end of this process."""
        with self._lock:
            helper, self._helper = self._helper, None
        if helper is not None:
            helper.end()

    def after_fork(self) -> None:
        """In a forked process: helper and VMs are the parent's."""
        self._lock = threading.Lock()
        if self._helper is not None:
            self._helper.forget()
            self._helper = None
        for channel in self._channels:
            channel.close()
        self._channels.clear()


HELPERS = Helpers()
atexit.register(HELPERS.end)
os.register_at_fork(after_in_child=HELPERS.after_fork)
