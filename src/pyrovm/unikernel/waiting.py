"""What a guest waits for: handles of the host, a timeout, signals; and the ticks it asks for.

The vCPU runs in the main thread.  A signal that arrives while it runs ends KVM_RUN (its handler
sets ``immediate_exit`` too, in case KVM_RUN is only about to begin); one that arrives during a wait
ends that through the wake-up pipe.
"""

from __future__ import annotations

import os
import select
import time

from pyrovm.abi import libos as abi
from pyrovm.host import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

POLLIN, POLLOUT, POLLERR, POLLHUP, POLLRDHUP = 0x1, 0x4, 0x8, 0x10, 0x2000
KNOWN_EVENTS = POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP
EPOLLONESHOT = 1 << 30
LONGEST_NS = (1 << 31) // 1000 * 10**9  # epoll_wait's, 24 days: longer is for ever
FORWARDED = signals.SIGHUP, signals.SIGINT, signals.SIGQUIT, signals.SIGTERM, signals.SIGWINCH


class Waiting:
    """Handles by number, and readiness of their file descriptors."""

    def __init__(self, run_page: memoryview, forwarded: Iterable[int] = FORWARDED) -> None:
        """Take over the signals; from the main thread.  ``run_page`` is the vCPU's kvm_run."""
        self._page = run_page
        self._epoll = select.epoll()
        self._wake_in, self._wake_out = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._epoll.register(self._wake_in, POLLIN)
        self._fds: dict[int, int] = {}  # handle to descriptor
        self._handles: dict[int, int] = {}  # and back
        self._ready: dict[int, int] = {}  # armed handles of files that are always ready
        self.pending = self.signals = 0
        self._is_ticking = self._wants_pause = False
        self._deadline = 0.0  # of time.monotonic; 0: none
        self.is_overdue = False
        self._before = {n: signals.handler_of(n) for n in (signals.SIGALRM, *forwarded)}
        for number in forwarded:
            if not signals.is_ignored(number):
                signals.handle(number, self._on_signal)
        signals.handle(signals.SIGALRM, self._on_tick)

    def close(self) -> None:
        """Give signals, timer and descriptors back; those of handles are their owners'."""
        self._deadline = 0.0
        self.set_ticking(0)
        for number, handler in self._before.items():
            signals.restore(number, handler)
        self._epoll.close()
        os.close(self._wake_in)
        os.close(self._wake_out)

    # --------------------------------------------------------------------------------- signals

    def _on_tick(self, _number: int, _frame: object) -> None:
        if self._is_ticking:
            self._tell_tick()
        if self._deadline and time.monotonic() >= self._deadline:
            self.is_overdue = True
            self._wake()
        elif self._deadline and not self._is_ticking:
            self._set_timer()
        self._page[1] = 1

    def _tell_tick(self) -> None:
        self.pending |= abi.PV_PENDING_TICK

    def _wake(self) -> None:
        try:
            os.write(self._wake_out, b"!")
        except BlockingIOError:  # full: it wakes up anyway
            pass

    def _on_signal(self, number: int, _frame: object) -> None:
        self.pending |= abi.PV_PENDING_SIGNAL
        self.signals |= 1 << (number - 1)
        self._page[1] = 1
        self._wake()

    def ask_pause(self) -> None:
        """Have the run of the guest end, so that it can be branched and go on."""
        self._wants_pause = True
        self._page[1] = 1
        self._wake()

    def take_pause(self) -> bool:
        """Whether that was asked for, once."""
        wanted, self._wants_pause = self._wants_pause, False
        return wanted

    def go_on(self, pending: int) -> None:
        """The guest runs again: tell it these PV_PENDING bits, and have the ticks that it wants."""
        self.pending |= pending
        self._page[1] = 1
        self._set_timer()

    def take_pending(self) -> tuple[int, int]:
        """What to tell the guest, once: PV_PENDING bits, and a mask of signals."""
        pending, signals = self.pending, self.signals
        self.pending = self.signals = 0
        return pending, signals

    @property
    def ticking(self) -> int:
        """Which vCPUs are interrupted by ticks, a bit for each."""
        return int(self._is_ticking)

    def set_ticking(self, mask: int) -> None:
        """Start or stop (0) the ticks of PV_TICK_NS."""
        self._is_ticking = mask != 0
        self._set_timer()

    def set_deadline(self, seconds: float) -> None:
        """Set ``is_overdue`` in that time from now, and interrupt whatever goes on."""
        self._deadline = time.monotonic() + seconds
        self._set_timer()

    def _set_timer(self) -> None:
        if self._is_ticking:
            seconds = abi.PV_TICK_NS / 1e9
            signals.set_timer(seconds, seconds)
        elif self._deadline and not self.is_overdue:
            signals.set_timer(max(self._deadline - time.monotonic(), 1e-6))
        else:
            signals.set_timer(0.0)

    # ------------------------------------------------------------------------------- branching

    def rest(self) -> None:
        """There is no vCPU to be interrupted for now; signals are noted."""
        self._page = memoryview(bytearray(2))
        signals.set_timer(0.0)

    def attach(self, run_page: memoryview) -> None:
        """Interrupt another vCPU from now on."""
        self._page = run_page

    def branch(self) -> None:
        """In a forked process: have an epoll and a pipe of our own.

        What was waited for is forgotten; the guest asks again (PV_PENDING_BRANCH).
        """
        self._epoll.close()
        self._epoll = select.epoll()
        for fd in (self._wake_in, self._wake_out):
            os.close(fd)
        self._wake_in, self._wake_out = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._epoll.register(self._wake_in, POLLIN)
        self._ready.clear()
        self._deadline = 0.0

    # --------------------------------------------------------------------------------- handles

    def add(self, handle: int, fd: int) -> None:
        """Make ``fd`` known as ``handle``."""
        self._fds[handle] = fd
        self._handles[fd] = handle

    def replace(self, fds: dict[int, int]) -> None:
        """Have other descriptors behind handles; nothing is waited for yet."""
        self._fds.update(fds)
        self._handles = {fd: handle for handle, fd in self._fds.items()}

    def remove(self, handle: int) -> None:
        """Forget a handle, before its descriptor is closed."""
        fd = self._fds.pop(handle)
        if self._handles.get(fd) == handle:
            del self._handles[fd]
        self._ready.pop(handle, None)
        try:
            self._epoll.unregister(fd)
        except (FileNotFoundError, PermissionError):  # it was never waited for
            pass

    def _arm(self, handle: int, events: int) -> None:
        fd = self._fds.get(handle)
        if fd is None:
            self._ready[handle] = POLLERR
            return
        wanted = events & KNOWN_EVENTS | EPOLLONESHOT
        try:
            try:
                self._epoll.modify(fd, wanted)
            except FileNotFoundError:
                self._epoll.register(fd, wanted)
        except PermissionError:  # a regular file: always ready
            self._ready[handle] = events & (POLLIN | POLLOUT)

    def wait(
        self, timeout_ns: int, arms: Iterable[tuple[int, int]], most: int
    ) -> list[tuple[int, int]]:
        """Arm handles and wait; (handle, events) of what has happened, each told once."""
        for handle, events in arms:
            self._arm(handle, events)
        if self._ready:
            return self._take_ready(most)
        if self.pending or self.is_overdue or self._wants_pause:
            return []
        return self._poll(-1 if timeout_ns > LONGEST_NS else timeout_ns / 1e9, most)

    def _take_ready(self, most: int) -> list[tuple[int, int]]:
        found = list(self._ready.items())[:most]
        for handle, _ in found:
            del self._ready[handle]
        return found

    def _poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        found = []
        for fd, events in self._epoll.poll(timeout, most):
            if fd == self._wake_in:
                os.read(self._wake_in, 64)
            elif fd in self._handles:
                found.append((self._handles[fd], events))
        return found
