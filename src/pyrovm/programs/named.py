"""The process of a program that has a name: others of its user find it and have it branched.

To its socket (naming.py) come the datagrams that a helper gets: a channel and three streams, for
each branch.  On the channel the request follows, a record with the name of the branch, and comes
back what a branch of any VM says (wire.py).  The branch then waits for GO, so that of many either
all run or none; from then on it is nobody's but its own, and has its name's socket.
"""

from __future__ import annotations

import _socket
import fcntl
import os
import time
from struct import Struct

from pyrovm.errors import PyrovmError
from pyrovm.host import signals
from pyrovm.launcher.passing import INT_SIZE
from pyrovm.programs import wire
from pyrovm.programs.branching import PROTOCOLS
from pyrovm.programs.living import Live
from pyrovm.programs.naming import Name
from pyrovm.programs.session import Session, refuse
from pyrovm.unikernel import addresses as ip
from pyrovm.unikernel.branch import Rest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyrovm.unikernel.addresses import Endpoint
    from pyrovm.unikernel.calls import Calls
    from pyrovm.unikernel.outside import Outside
    from pyrovm.unikernel.run import Pause

GO = b"!"
GO_S = 60.0  # until whoever has asked for branches has all of them
_CREDENTIALS = Struct("@iII")  # struct ucred: pid, uid, gid


class Named(Live):
    """A VM of a name, from the start of ``pyrovm run --id``; as a context manager it gives the
    name back at the end, in each branch its own."""

    def __init__(self, name: str, facts: dict[str, Any]) -> None:
        """Take the name; ``facts`` are what others may know of the VM.

        Raises:
            ConfigError: it cannot be a name, or a VM of this name lives.
            HostError: it cannot be kept.
        """
        self._facts = {**facts, "since": time.time(), "ports": {}}
        self._name = Name(name, self._facts)

    def __enter__(self) -> Named:
        return self

    def __exit__(self, *_: object) -> None:
        self._name.close()

    def serve(self, outside: Outside) -> None:
        """This is what the program has of the host; before the start."""
        super().__init__(Session(self._name.socket.detach()), outside)
        self._ours = (self._name.fd,)
        outside.listens = self._tell_ports

    def _tell_ports(self, _port: int) -> None:
        self._name.tell(ports=_ports(self._outside.published()))

    def attach(self, calls: Calls) -> Callable[[], None]:
        """Serve the guest, and hear of requests."""
        finish = self._outside.attach(calls)
        self._calls = calls
        self._hear()
        return finish

    def _hear(self) -> None:
        signals.ignore(signals.SIGCHLD)  # nobody waits for branches
        signals.handle(signals.SIGIO, self._on_request)
        fd = self._session.channel.fileno()
        fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
        self._on_request()  # no signal tells of what has come already

    def _on_request(self, *_: object) -> None:
        if self._look() is not None:
            self._calls.waiting.ask_pause()

    def paused(self, pause: Pause) -> None:
        """Fork what is asked for; returns here and in each branch."""
        problem = ""
        self._pause = pause
        try:
            self._rest = Rest(pause.vm, pause.calls.waiting)
        except PyrovmError as error:
            problem = str(error)
        while self._look() is not None:
            fds = self._receive()
            if problem and fds:
                refuse(fds[0], problem)
                _close(fds)
            elif fds and not self._fork_for(fds):
                self._begin()
                return

    def _receive(self) -> list[int]:
        """The descriptors of the next request; none of one that is another user's."""
        room = _socket.CMSG_SPACE(_CREDENTIALS.size) + _socket.CMSG_SPACE(
            INT_SIZE * wire.DESCRIPTORS
        )
        _, ancillary, flags, _ = self._session.channel.recvmsg(
            len(wire.PASS), room, _socket.MSG_CMSG_CLOEXEC
        )
        fds: list[int] = []
        user = -1
        for level, kind, data in ancillary:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                fds += memoryview(data)[: len(data) // INT_SIZE * INT_SIZE].cast("i")
            elif (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_CREDENTIALS):
                _, user, _ = _CREDENTIALS.unpack(data)
        is_whole = len(fds) == wire.DESCRIPTORS and not flags & _socket.MSG_CTRUNC
        if user != os.geteuid() or not is_whole:
            _close(fds)
            return []
        return fds

    # ------------------------------------------------------------------------------ in a branch

    def _renew(self, request: wire.Fields, *, is_awake: bool) -> list[tuple[str, str]]:
        source = self._name.name
        os.setsid()  # Ctrl-C is for the terminal of the source
        news = super()._renew(request, is_awake=is_awake)
        self._session.live_on()  # GO comes on it, of which no signal is to tell
        ports = _ports(self._outside.published())
        facts = {**self._facts, "since": time.time(), "ports": ports, "source": source}
        self._name = Name(request.get("id", [""])[0], facts, "NAME of a copy")
        return [*news, ("pid", str(os.getpid()))]

    def _go_on(self, fds: list[int], problem: str = "", *, is_awake: bool = False) -> None:
        try:
            super()._go_on(fds, problem, is_awake=is_awake)
            self._session.channel.settimeout(GO_S)
            is_wanted = self._session.channel.recv(1) == GO
        except (ConnectionError, TimeoutError):
            is_wanted = False
        if not is_wanted:  # whoever has asked is gone, or could not have all
            self._name.close()
            os._exit(0)

    def _begin(self) -> None:
        """Hear of requests to our own name."""
        self._session.channel.close()
        self._session.become(self._name.socket.detach())
        self._ours = (self._name.fd,)
        self._hear()


def _ports(published: list[tuple[int, int, Endpoint]]) -> dict[str, list[Any]]:
    return {
        f"{port}/{PROTOCOLS[kind]}": [ip.text(host), host_port]
        for kind, port, (host, host_port) in published
    }


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
