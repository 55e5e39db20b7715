"""Processes of VMs, forked one ahead: the next program finds its process and its VM made."""

from __future__ import annotations

import _socket
import os

from pyrovm.errors import PROCESS_LIMITS, os_error
from pyrovm.host import signals
from pyrovm.launcher import passing
from pyrovm.programs import wire
from pyrovm.programs.session import EX_SOFTWARE, receive_descriptors, refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Spares:
    """The process in waiting, if there is one; ``children`` gets the numbers of all.

    A process closes ``ours`` first, ``prepare``s, and calls what that returns with the descriptors
    that it is given.
    """

    def __init__(
        self,
        children: set[int],
        ours: tuple[int, ...],
        prepare: Callable[[], Callable[[list[int]], None]],
    ) -> None:
        self._children = children
        self._ours = ours
        self._prepare = prepare
        self._channel: _socket.socket | None = None

    def refill(self) -> None:
        """Have a process wait for the next program, if none does."""
        if self._channel is None:
            try:
                self._channel = self._fork()
            except OSError:  # there can be no more for now; whoever needs one is told
                pass

    def give(self, fds: list[int]) -> None:
        """Have a program run with these descriptors, the first being the channel to its caller."""
        channel, self._channel = self._channel, None
        try:
            if channel is None or not _send(channel, fds):
                _send(self._fork(), fds)  # if that is gone too, the caller sees its channel closed
        except OSError as error:
            refuse(fds[0], f"A VM's process cannot be forked ({PROCESS_LIMITS}): {os_error(error)}")

    def _fork(self) -> _socket.socket:
        channel, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        try:
            pid = os.fork()
        except OSError:
            channel.close()
            theirs.close()
            raise
        if pid:
            theirs.close()
            self._children.add(pid)
            return channel
        status = EX_SOFTWARE
        try:
            signals.wake_up_fd(-1)
            signals.default(signals.SIGCHLD)
            channel.close()
            for fd in self._ours:
                os.close(fd)
            serve = self._prepare()
            fds = receive_descriptors(theirs)
            theirs.close()
            if fds:  # else the helper is gone
                serve(fds)
            status = 0
        finally:
            os._exit(status)


def _send(channel: _socket.socket, fds: list[int]) -> bool:
    try:
        passing.send(channel, wire.PASS, fds)
    except OSError:  # somebody has killed it
        return False
    finally:
        channel.close()
    return True
