"""The process of a VM that is branched: it forks, and each child makes itself a VM of its own."""

from __future__ import annotations

import os
import traceback
from time import perf_counter_ns

from pyrovm.errors import PROCESS_LIMITS, HostError, PyrovmError, os_error
from pyrovm.host import signals
from pyrovm.programs import wire
from pyrovm.programs.session import EX_SOFTWARE, failure, refuse, take_streams
from pyrovm.unikernel import addresses as ip
from pyrovm.unikernel.policy import DATAGRAM, STREAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.programs.session import Session
    from pyrovm.unikernel.branch import Rest
    from pyrovm.unikernel.outside import Outside
    from pyrovm.unikernel.run import Pause

PROTOCOLS = {STREAM: "tcp", DATAGRAM: "udp"}


class Branching:
    """What templates and running VMs have in common; ``rest`` is set while there is a pause."""

    _pause: Pause
    _rest: Rest

    def __init__(self, session: Session, outside: Outside) -> None:
        self._session = session
        self._outside = outside
        self._ours: tuple[int, ...] = ()  # descriptors that are not a branch's

    def _fork_for(self, fds: list[int]) -> bool:
        if len(fds) == wire.DESCRIPTORS and not self._fork(lambda: self._go_on(fds), fds):
            return False
        for fd in fds:
            os.close(fd)
        return True

    def _forked(self, pid: int, *, is_spare: bool) -> None:
        """There is another process."""

    def _not_forked(self) -> None:
        """There can be no more for now."""

    def _fork(self, begin: Callable[[], None], request: list[int] | None = None) -> bool:
        """Fork a process that does ``begin``; True here, False there.

        ``request`` are the descriptors of the branch that is asked for; without, it is a spare.
        """
        self._forked_ns = perf_counter_ns()
        try:
            pid = os.fork()
        except OSError as error:
            self._not_forked()
            if request:
                refuse(
                    request[0], f"A branch cannot be forked ({PROCESS_LIMITS}): {os_error(error)}"
                )
            return True
        if pid:
            self._forked(pid, is_spare=not request)
            return True
        try:
            signals.wake_up_fd(-1)
            for number in (signals.SIGCHLD, signals.SIGIO):
                signals.default(number)
            begin()
        except BaseException:
            # Nobody above may go on as the template.
            traceback.print_exc()
            os._exit(EX_SOFTWARE)
        return False

    def _go_on(self, fds: list[int], problem: str = "", *, is_awake: bool = False) -> None:
        """Be the branch that is asked for, or report why not."""
        channel_fd, *streams = fds
        for fd in self._ours:
            os.close(fd)
        self._session.channel.close()
        self._session.become(channel_fd)
        try:
            request = self._session.begin()
            if problem:
                raise HostError(problem)
            take_streams(streams)
            news = self._renew(request, is_awake=is_awake)
        except PyrovmError as error:
            self._session.send(failure(type(error).__name__, str(error)))
            os._exit(0)
        except (BrokenPipeError, ConnectionResetError, wire.BrokenRecord):
            os._exit(0)  # the caller has lost interest
        except OSError as error:  # no memory, no descriptors
            self._session.send(failure("HostError", f"A branch cannot be made: {os_error(error)}"))
            os._exit(0)
        self._session.send(news)

    def _wake(self) -> None:
        self._pause.calls.waiting.branch()
        self._rest.wake()
        self._rest.become_other()

    def _renew(self, request: wire.Fields, *, is_awake: bool) -> list[tuple[str, str]]:
        """What the VM has of the host's becomes our own; what the caller is told of us."""
        pause = self._pause
        if not is_awake:
            self._wake()
        pause.stdio.open()
        pause.calls.set_streams(pause.stdio.fds)
        self._rest.go_on(request.get("argument", ()))
        published = self._outside.branch(request.get("publish", ()))
        outcome = pause.outcome
        outcome.started_ns, outcome.built_ns = self._forked_ns, perf_counter_ns()
        return [
            ("generation", str(pause.vm.boot.generation)),
            *(
                ("published", f"{PROTOCOLS[kind]} {port} {ip.text(host)} {host_port}")
                for kind, port, (host, host_port) in published
            ),
        ]
