"""What the vCPUs of one guest wait for: as ``Waiting``, and each its bell."""

from __future__ import annotations

import os
import select

from pyrovm.abi import libos as abi
from pyrovm.unikernel.waiting import LONGEST_NS, POLLIN, Waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyrovm.unikernel.cpu import ProgramCpu
    from pyrovm.unikernel.smp import CpuThread


class SharedWaiting(Waiting):
    """Handles and their readiness, for ``cpus``; signals are for the first."""

    def __init__(self, cpus: list[ProgramCpu]) -> None:
        """Take over the signals; from the main thread."""
        self._cpus = cpus
        self.threads: Sequence[CpuThread] = ()
        self._ticking = 0  # a bit for each vCPU
        self._pollers: list[tuple[select.epoll, select.epoll]] = []  # with bell; and with handles
        super().__init__(cpus[0].vcpu.page)
        self._make_pollers()

    def close(self) -> None:
        """Give signals, timer and descriptors back."""
        super().close()
        self._close_pollers()

    def _make_pollers(self) -> None:
        for cpu in self._cpus:
            deaf, listening = select.epoll(), select.epoll()
            for poller in (deaf, listening):
                poller.register(cpu.bell, POLLIN)
            listening.register(self._epoll.fileno(), POLLIN)
            self._pollers.append((deaf, listening))

    def _close_pollers(self) -> None:
        while self._pollers:
            for poller in self._pollers.pop():
                poller.close()

    # --------------------------------------------------------------------------------- signals

    def _wake(self) -> None:
        if self._cpus:
            os.eventfd_write(self._cpus[0].bell, 1)

    def ask_pause(self) -> None:
        """Have the run of the guest end; of all vCPUs at once, so that none goes on beyond what
        another one has asked at."""
        super().ask_pause()
        if self.threads:
            self.threads[0].stop_all()

    @property
    def ticking(self) -> int:
        """Which vCPUs are interrupted by ticks, a bit for each."""
        return self._ticking

    def set_ticking(self, mask: int) -> None:
        """Interrupt these vCPUs, a bit for each, every PV_TICK_NS."""
        self._ticking = mask
        super().set_ticking(mask)

    def _tell_tick(self) -> None:
        for thread in self.threads:
            if self._ticking >> thread.cpu.index & 1:
                thread.ticks = abi.PV_PENDING_TICK
                if thread.cpu.index:
                    thread.poke()

    # ------------------------------------------------------------------------------- branching

    def rest(self) -> None:
        """There are no vCPUs for now."""
        self.threads = ()
        super().rest()

    def attach(self, run_page: memoryview) -> None:
        """Interrupt another vCPU from now on."""
        super().attach(run_page)
        self._close_pollers()
        self._make_pollers()

    def branch(self) -> None:
        """In a forked process: have an epoll and a timer of our own."""
        super().branch()
        self._close_pollers()
        self._make_pollers()

    # --------------------------------------------------------------------------------- waiting

    def arm(self, arms: Iterable[tuple[int, int]]) -> None:
        """Have it told when these events happen."""
        for handle, events in arms:
            self._arm(handle, events)

    def has_ready(self) -> bool:
        """Whether there is something to collect that no descriptor tells."""
        return bool(self._ready)

    def collect(self, most: int) -> list[tuple[int, int]]:
        """(handle, events) of what has happened, each told once."""
        return self._take_ready(most) or self._poll(0, most)

    def sleep(self, index: int, timeout_ns: int, *, listens: bool) -> None:
        """Wait until the bell of vCPU ``index`` rings, a timeout, or, if it listens, an event."""
        if index == 0 and (self.pending or self.is_overdue or self._wants_pause):
            return
        timeout = -1 if timeout_ns > LONGEST_NS else timeout_ns / 1e9
        bell = self._cpus[index].bell
        for fd, _ in self._pollers[index][listens].poll(timeout):
            if fd == bell:
                os.eventfd_read(fd)
