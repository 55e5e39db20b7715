"""The process of a program that runs and can be branched meanwhile.

Its channel is that of any VM's process (wire.py) until it has said that it lives.  From then on the
caller sends on it four descriptors for each branch, as to a template (resting.py); the signal that
tells of them pauses the VM, which goes on when the branches are forked.
"""

from __future__ import annotations

import _socket
import os

from pyrovm.host import signals
from pyrovm.programs.branching import Branching
from pyrovm.programs.session import receive_descriptors
from pyrovm.unikernel.branch import Rest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.unikernel.calls import Calls
    from pyrovm.unikernel.run import Pause


class Live(Branching):
    """``attach`` and ``paused`` are run()'s ``prepare`` and ``paused``."""

    def attach(self, calls: Calls) -> Callable[[], None]:
        """Serve the guest, and hear of requests."""
        finish = self._outside.attach(calls)
        self._calls = calls
        signals.ignore(signals.SIGCHLD)  # nobody waits for branches
        signals.handle(signals.SIGIO, self._on_request)
        self._session.send([("live", "1")])
        self._on_request()  # if the caller is gone already, no signal will tell
        return finish

    def _on_request(self, *_: object) -> None:
        waiting = self._look()
        if waiting == b"":
            os._exit(0)  # the caller has closed its end
        if waiting:
            self._calls.waiting.ask_pause()

    def _look(self) -> bytes | None:
        """What is there to be received; None: nothing."""
        flags = _socket.MSG_PEEK | _socket.MSG_DONTWAIT
        try:
            return self._session.channel.recv(1, flags)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            return b""

    def paused(self, pause: Pause) -> None:
        """Fork what is asked for; returns here and in each branch."""
        self._pause = pause
        self._rest = Rest(pause.vm, pause.calls.waiting)
        while self._look():
            fds = receive_descriptors(self._session.channel)
            if fds and not self._fork_for(fds):
                return

    def _wake(self) -> None:
        self._rest.detach()  # of KVM's side in the parent, which answers EIO here
        super()._wake()
