"""The thread that serves a guest's network ring while its vCPU runs."""

from __future__ import annotations

import select
from _thread import allocate_lock, get_ident, start_new_thread

from pyrovm.host import signals
from pyrovm.host.eventfd import EventFd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.solo5.ring import Ring

KICK_SIGNAL = signals.SIGRTMIN
STOP_TIMEOUT = 30.0  # seconds


def memory_barrier() -> None:
    """Order earlier stores before later loads: a lock is taken by a locked instruction."""
    _barrier.acquire()
    _barrier.release()


_barrier = allocate_lock()


class RingThread:
    """Serves ``ring`` whenever ``bell`` rings; ``failure`` is why it ended, None while it runs.

    ``on_failure`` is called in the thread, before the vCPU's thread is interrupted.
    """

    def __init__(self, ring: Ring, on_failure: Callable[[], object]) -> None:
        self._ring = ring
        self._on_failure = on_failure
        self.bell = EventFd()
        self.failure: Exception | None = None
        self._stopping = False
        self._vcpu_thread = 0
        self._ended = allocate_lock()

    def start(self) -> None:
        """Start the thread; from the main thread, whose signals are used."""
        signals.handle(KICK_SIGNAL, lambda _number, _frame: None)
        self._ended.acquire()
        start_new_thread(self._main, ())

    def watch_vcpu(self) -> None:
        """The calling thread runs the vCPU: a failure interrupts it."""
        self._vcpu_thread = get_ident()

    def close(self) -> None:
        """End the thread and wait until it has."""
        self._stopping = True
        self.bell.signal()
        if self._ended.acquire(timeout=STOP_TIMEOUT):
            self.bell.close()

    def _main(self) -> None:
        try:
            while not self._stopping:
                if self._ring.is_idle():
                    select.select([self.bell], [], [])
                    self.bell.drain()
                self._ring.woken()
                self._ring.serve()
        except Exception as error:  # the one handler at the top of this thread
            self.failure = error
            self._on_failure()
            if self._vcpu_thread:
                signals.kill_thread(self._vcpu_thread, KICK_SIGNAL)
        finally:
            self._ended.release()
