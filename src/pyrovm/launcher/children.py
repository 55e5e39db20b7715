"""The launcher's children: forked, waiting in the pool, at work, reaped."""

from __future__ import annotations

import _socket
import os
from time import time

from pyrovm.errors import PROCESS_LIMITS, HostError
from pyrovm.host import signals
from pyrovm.launcher import child, passing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyrovm.launcher.child import Entry


class Child:
    """One process; ``client`` is told of its end."""

    __slots__ = ("channel", "client", "kind", "name", "pid", "since")

    def __init__(self, pid: int, channel: _socket.socket) -> None:
        self.pid = pid
        self.channel: _socket.socket | None = channel  # until it has its job
        self.kind = ""
        self.name = ""
        self.since = time()
        self.client: _socket.socket | None = None


class Children:
    """All of them by pid; ``limit`` bounds those at work, ``pool`` those that wait."""

    def __init__(
        self,
        entries: Mapping[str, Entry],
        prepare: Callable[[], object],
        *,
        pool: int,
        limit: int,
    ) -> None:
        self._entries = entries
        self._prepare = prepare
        self.pool = pool
        self.limit = limit
        self.by_pid: dict[int, Child] = {}
        self.waiting: list[Child] = []
        self.started = self.ended = 0
        self.pool_failed = False  # the last child of the pool has ended before it had a job

    @property
    def at_work(self) -> int:
        """How many have a job."""
        return len(self.by_pid) - len(self.waiting)

    def take(self) -> Child:
        """A child that waits for a job; from the pool, or a new one.

        Raises:
            HostError: there are as many as there may be, or the kernel allows no more.
        """
        if self.at_work >= self.limit:
            raise HostError(
                f"the launcher has {self.at_work} children at work, which is its limit "
                "(pyrovm launcher run --max-children)"
            )
        return self.waiting.pop(0) if self.waiting else self._fork(None)

    def assign(self, of: Child, job: bytes, fds: Sequence[int], client: _socket.socket) -> None:
        """Give a child its job.

        Raises:
            OSError: it is gone.
        """
        assert of.channel is not None
        of.client, of.since = client, time()
        channel, of.channel = of.channel, None
        try:
            passing.send(channel, job, fds)
        finally:
            channel.close()
        self.started += 1
        self.pool_failed = False  # worth another try

    def refill(self) -> None:
        """Have the pool full again.

        Raises:
            HostError: the kernel allows no more processes.
        """
        while len(self.waiting) < self.pool and not self.pool_failed:
            self.waiting.append(self._fork(self._prepare))

    def _fork(self, prepare: Callable[[], object] | None) -> Child:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        # No handler of ours may run in the child.
        before = signals.exchange_mask(signals.ALL)
        try:
            pid = os.fork()
            if not pid:
                child.live(theirs.fileno(), self._entries, prepare)
        except OSError as error:
            ours.close()
            raise HostError.wrap(f"the launcher cannot fork ({PROCESS_LIMITS})", error) from None
        finally:
            signals.exchange_mask(before)
            theirs.close()
        made = self.by_pid[pid] = Child(pid, ours)
        return made

    def reap(self) -> list[tuple[Child, int]]:
        """The children that have ended since, each with its wait status."""
        ended = []
        while self.by_pid:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            of = self.by_pid.pop(pid, None)
            if of is None:
                continue
            if of.channel is not None:  # it has not had a job
                of.channel.close()
                if of in self.waiting:
                    self.waiting.remove(of)
                    self.pool_failed = True
            else:
                self.ended += 1
            ended.append((of, status))
        return ended

    def dismiss(self) -> None:
        """Let the pool go; those at work stay."""
        self.pool = 0
        for of in self.waiting:
            if of.channel is not None:
                of.channel.shutdown(_socket.SHUT_RDWR)
