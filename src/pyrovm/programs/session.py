"""The process of one VM towards its caller: the channel it reports on, and the streams it has."""

from __future__ import annotations

import _socket
import fcntl
import os

from pyrovm.launcher import passing
from pyrovm.programs import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.unikernel.run import Outcome

EX_SOFTWARE = 70


class Session:
    """``channel`` is the socket to the caller of this VM."""

    def __init__(self, channel_fd: int) -> None:
        self.become(channel_fd)

    def become(self, channel_fd: int) -> None:
        """Have a caller; in a forked process, another one."""
        self.channel = _socket.socket(fileno=channel_fd)
        self.channel.setblocking(True)
        self._unsent = wire.STARTED

    def started(self) -> None:
        """Say at once that there is a process; otherwise that goes with the first record."""
        self._say(b"")

    def begin(self) -> wire.Fields:
        """The request; from now on this process ends when the caller closes its end.

        Raises:
            BrokenRecord: the caller has closed it already, or sends something else.
        """
        request = wire.receive(self.channel.recv)
        self._die_with()
        return request

    def _die_with(self) -> None:
        """Have SIGIO, whose default is to kill, sent to us when the other end is closed: at once,
        wherever we are, in KVM_RUN for ever or in a write that nobody reads."""
        fd = self.channel.fileno()
        fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
        try:
            gone = self.channel.recv(1, _socket.MSG_DONTWAIT | _socket.MSG_PEEK) == b""
        except BlockingIOError:
            gone = False
        if gone:  # before we asked for the signal
            raise wire.BrokenRecord("the caller is gone")

    def live_on(self) -> None:
        """The caller may send something from now on; that it has closed its end shows by poll."""
        fd = self.channel.fileno()
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_ASYNC)

    def send(self, fields: list[tuple[str, str]]) -> None:
        """A record to the caller."""
        self._say(wire.encode(fields))

    def _say(self, data: bytes) -> None:
        unsent, self._unsent = self._unsent, b""
        self.channel.sendall(unsent + data)

    def finish(self, outcome: Outcome) -> None:
        """Report, and leave the rest to the kernel."""
        os.closerange(0, 3)
        self.send(describe(outcome))
        os._exit(0)


def receive_descriptors(control: _socket.socket) -> list[int] | None:
    """Those of the next message; None where nobody can send one any more."""
    try:
        data, fds = passing.receive(control, len(wire.PASS), wire.DESCRIPTORS)
    except ConnectionResetError:
        return None
    except passing.TooMany:  # nothing of ours
        return []
    return fds if data else None


def take_streams(streams: list[int]) -> None:
    """Have these three as standard input, output and error."""
    for number, fd in enumerate(streams):
        os.dup2(fd, number, inheritable=False)
        os.close(fd)


def refuse(channel_fd: int, message: str) -> None:
    """Report that there can be no process for this channel."""
    report = wire.STARTED + wire.encode(failure("HostError", message))
    try:
        os.write(channel_fd, report)
    except OSError:  # the caller has lost interest
        pass


def describe(outcome: Outcome) -> list[tuple[str, str]]:
    """The report about a program that has ended."""
    return [
        ("status", str(outcome.status)),
        ("signal", str(outcome.signal)),
        ("exits", str(outcome.exits)),
        ("build_ns", str(outcome.built_ns - outcome.started_ns)),
        ("run_ns", str(outcome.ended_ns - outcome.built_ns)),
        ("panic", outcome.panic.replace("\0", "?")),
    ]


def failure(kind: str, message: str) -> list[tuple[str, str]]:
    """The report about one that could not be run: an exception's name ("": our own) and text."""
    return [("error", kind), ("message", message.replace("\0", "?"))]
