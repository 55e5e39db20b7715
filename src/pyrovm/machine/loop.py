"""The VMM's one event loop: epoll, one-shot timers, and calls posted by vCPU threads.

Everything but the vCPUs happens here, in the main thread: the API, queue notifications, taps,
vsock streams, time-outs.  Each ready descriptor gets one callback a round, so none starves the
others as long as every callback bounds its own work.
"""

from __future__ import annotations

import select
from time import monotonic

from pyrovm.host.eventfd import EventFd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

EPOLLIN, EPOLLOUT = select.EPOLLIN, select.EPOLLOUT


class LoopTimer:
    """A one-shot timer of a loop; times in seconds."""

    __slots__ = ("_callback", "_timers", "deadline")

    def __init__(self, timers: set[LoopTimer], callback: Callable[[], None]) -> None:
        self._timers = timers
        self._callback = callback
        self.deadline = 0.0

    def arm(self, seconds: float) -> None:
        """Fire once, ``seconds`` from now; replaces an earlier setting."""
        self.deadline = monotonic() + seconds
        self._timers.add(self)

    def disarm(self) -> None:
        """Do not fire."""
        self._timers.discard(self)

    @property
    def armed(self) -> bool:
        """Whether it will fire."""
        return self in self._timers

    def fire(self) -> None:
        """Call back, once."""
        self._timers.discard(self)
        self._callback()


class EventLoop:
    """Runs callbacks until :meth:`stop`.  Only :meth:`post` may be called from other threads."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._events: dict[int, int] = {}
        self._timers: set[LoopTimer] = set()
        self._posted: list[Callable[[], None]] = []
        self._wake = EventFd()
        self._running = False
        self.watch(self._wake.fd, self._run_posted)

    def watch(self, fd: int, callback: Callable[[int], None], events: int = EPOLLIN) -> None:
        """Call ``callback(events)`` in every round in which ``fd`` is ready.

        Raises:
            PermissionError: ``fd`` is of a kind that is always ready (a regular file).
        """
        if self._events.get(fd):
            self._epoll.modify(fd, events)
        elif events:
            self._epoll.register(fd, events)  # refuses regular files: then nothing is changed
        self._handlers[fd] = callback
        self._events[fd] = events

    def modify(self, fd: int, events: int) -> None:
        """Change what a watched ``fd`` is watched for; 0 mutes it, also for hang-ups."""
        known = self._events[fd]
        if known == events:
            return
        self._events[fd] = events
        if not events:
            self._epoll.unregister(fd)
        elif known:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)

    def unwatch(self, fd: int) -> None:
        """Stop watching ``fd``, before it is closed; unknown descriptors are ignored."""
        self._handlers.pop(fd, None)
        if self._events.pop(fd, 0):
            self._epoll.unregister(fd)

    def timer(self, callback: Callable[[], None]) -> LoopTimer:
        """A new timer, not armed."""
        return LoopTimer(self._timers, callback)

    def post(self, callback: Callable[[], None]) -> None:
        """Have the loop call ``callback`` soon; from any thread."""
        self._posted.append(callback)
        self._wake.signal()

    def _run_posted(self, _events: int) -> None:
        self._wake.drain()
        posted, self._posted = self._posted, []
        for callback in posted:
            callback()

    def run(self) -> None:
        """Run until :meth:`stop`."""
        self._running = True
        while self._running:
            self.run_once(None)

    def run_once(self, timeout: float | None) -> None:
        """One round: wait up to ``timeout`` seconds (None: for ever) and call back."""
        # Copies, made in one step: a vCPU thread that resets a device disarms its timers meanwhile.
        if timers := list(self._timers):
            left = max(0.0, min(t.deadline for t in timers) - monotonic())
            timeout = left if timeout is None else min(left, timeout)
        handlers = self._handlers
        for fd, events in self._epoll.poll(timeout):
            handler = handlers.get(fd)
            if handler is not None:  # else an earlier callback of this round unwatched it
                handler(events)
        if self._timers:
            now = monotonic()
            for timer in list(self._timers):
                if timer.deadline <= now and timer.armed:
                    timer.fire()

    def stop(self) -> None:
        """Let :meth:`run` return after this round."""
        self._running = False

    def close(self) -> None:
        self._epoll.close()
        self._wake.close()
