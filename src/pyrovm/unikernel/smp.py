"""Several vCPUs of one program's VM: the first in the main thread, the others in one each.

All calls but waiting and kicking are served one at a time, as with one vCPU: the library OS makes
them so, and a guest that does otherwise must not find a descriptor that another call is closing.

A vCPU is stopped by immediate_exit and a signal, so that it cannot be missed: what is wanted is
noted before, and looked at after KVM_RUN has returned.  While one waits (PV_WAIT), its bell is what
ends that: an eventfd, which KVM rings too when the guest stores to the bell's address.
"""

from __future__ import annotations

import os
from _thread import allocate_lock, get_ident, start_new_thread
from collections import deque
from errno import EFAULT, EINVAL

from pyrovm.abi import libos as abi
from pyrovm.errors import GuestError, HostError
from pyrovm.host import signals
from pyrovm.unikernel.shared_waiting import SharedWaiting
from pyrovm.unikernel.waiting import FORWARDED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType

    from pyrovm.unikernel.calls import Calls, Ended, Handler
    from pyrovm.unikernel.cpu import ProgramCpu

KICK_SIGNAL = signals.SIGRTMIN
FOR_THE_FIRST = (signals.SIGALRM, *FORWARDED)
STOP_TIMEOUT = 30.0  # seconds; a call that takes longer is one of a host that has failed


class CpuThread:
    """One vCPU at work; to ``ProgramCpu.run`` it is the calls, and what they wait with."""

    def __init__(self, cpu: ProgramCpu, group: Smp, waiting: SharedWaiting) -> None:
        self.cpu = cpu
        self.waiting = self
        self.handlers = [group.one_at_a_time(number) for number in range(abi.PV_CALLS)]
        self.handlers[abi.PV_WAIT] = self._wait
        self._set_ticks = self.handlers[abi.PV_INTERRUPT]
        self.handlers[abi.PV_INTERRUPT] = self._interrupt
        self._group = group
        self._waiting = waiting
        self.ident = 0  # of the thread; 0 where there is none that may be signalled
        self.has_ended = allocate_lock()  # both are hand-overs: free when it is so
        self.may_go = allocate_lock()
        self._is_kicked = self._is_asleep = False
        self._kickers: deque[LockType] = deque()
        self.ticks = 0  # PV_PENDING_TICK, once it is due

    # ------------------------------------------------------------------------ in its own thread

    @property
    def is_overdue(self) -> bool:
        """Whether to give up; the first vCPU does it for all."""
        return self.cpu.index == 0 and self._waiting.is_overdue

    def take_pause(self) -> bool:
        """Whether to stop here."""
        return self._group.is_stopping or (self.cpu.index == 0 and self._waiting.take_pause())

    def take_pending(self) -> tuple[int, int]:
        """What to tell the guest before the vCPU runs again: PV_PENDING bits, and signals."""
        pending, self.ticks = self.ticks, 0
        told = 0
        if self.cpu.index == 0:
            more, told = self._waiting.take_pending()
            pending |= more
        if self._is_kicked:
            self._is_kicked = False
            pending |= abi.PV_PENDING_INTERRUPT
            self.release_kickers()
        return pending, told

    def _wait(
        self, timeout: int, arms: int, arm_count: int, events: int, most: int, _f: int
    ) -> int:
        group, waiting, index = self._group, self._waiting, self.cpu.index
        if arm_count > abi.PV_ARMS_MAX or most > abi.PV_EVENTS_MAX:
            return -EINVAL
        try:
            wanted = group.calls.read_events(arms, arm_count)
            with group.lock:
                waiting.arm(wanted)
                if most and (not timeout or waiting.has_ready()):
                    return group.calls.write_events(events, waiting.collect(most))
            if timeout:
                self._is_asleep = True
                self.release_kickers()  # it is in the library OS, and not to be waited for
                waiting.sleep(index, timeout, listens=most > 0)
                self._is_asleep = False
            if not most:
                return 0
            with group.lock:  # so that who asks without waiting finds it here, or there
                return group.calls.write_events(events, waiting.collect(most))
        except GuestError:
            return -EFAULT

    def _interrupt(self, mask: int, how: int, *_: int) -> int:
        if how == abi.PV_TICKING:
            return self._set_ticks(mask, how, 0, 0, 0, 0)
        if not mask or mask >> len(self._group.threads) or mask >> self.cpu.index & 1:
            return -EINVAL
        locks = []
        for thread in self._group.threads:
            if not mask >> thread.cpu.index & 1 or self._group.start(thread):
                continue
            if how == abi.PV_STOPPED:
                stopped = allocate_lock()
                stopped.acquire()
                thread._kickers.append(stopped)
                locks.append(stopped)
            thread.kick()
        for lock in locks:
            if not self._group.is_stopping and not lock.acquire(timeout=STOP_TIMEOUT):
                raise HostError(f"A vCPU did not stop within {STOP_TIMEOUT:g} s")
        return 0

    # -------------------------------------------------------------------------- from any thread

    def kick(self) -> None:
        """Have it leave the program; who waits for that has been noted before."""
        self._is_kicked = True
        self.poke()
        if self._is_asleep:
            self.release_kickers()

    def stop_all(self) -> None:
        """Have all vCPUs stop, this one too, before they go on in the guest."""
        self._group.interrupt_all()

    def release_kickers(self) -> None:
        """Let those go on that wait for its leaving the program."""
        try:
            while True:
                self._kickers.popleft().release()
        except IndexError:  # there is none any more
            pass

    def poke(self) -> None:
        """Have KVM_RUN return, or not begin."""
        self.cpu.vcpu.set_immediate_exit(True)
        if self.ident:  # no lock: the main thread may be in here already, and interrupted by a tick
            signals.kill_thread(self.ident, KICK_SIGNAL)


class Smp:
    """Runs all vCPUs of a VM; ``started`` are the numbers of those that have begun, and is kept."""

    def __init__(self, cpus: list[ProgramCpu], calls: Calls, started: set[int]) -> None:
        waiting = calls.waiting
        assert isinstance(waiting, SharedWaiting)
        self._waiting = waiting
        self.calls = calls
        self.lock = allocate_lock()
        self.is_stopping = False
        self._started = started
        self._ended: Ended | None = None
        self._error: Exception | None = None
        self.threads = [CpuThread(cpu, self, waiting) for cpu in cpus]
        self._running: list[CpuThread] = []
        waiting.threads = self.threads
        signals.handle(KICK_SIGNAL, _ignore)

    def one_at_a_time(self, number: int) -> Handler:
        """What serves call ``number``, but not beside others."""
        lock, handlers = self.lock, self.calls.handlers

        def serve(a: int, b: int, c: int, d: int, e: int, f: int) -> int:
            with lock:
                return handlers[number](a, b, c, d, e, f)

        return serve

    def run(self) -> Ended | None:
        """Run them until the guest ends, or a pause (None); no other thread is left then.

        Raises:
            HostError: the guest did what no library OS does; the message says what.
        """
        first = self.threads[0]
        first.ident = get_ident()
        try:
            for thread in self.threads[1:]:
                if thread.cpu.index in self._started:
                    self._begin(thread)
            ended = first.cpu.run(first)
        finally:
            self._stop()
        if self._error:
            raise self._error
        self._waiting.take_pause()  # if it was for that
        return ended or self._ended

    def start(self, thread: CpuThread) -> bool:
        """Start the vCPU if it has not been started yet; whether that was so."""
        with self.lock:
            if thread.cpu.index in self._started:
                return False
            self._started.add(thread.cpu.index)
            self._begin(thread)
            return True

    def _begin(self, thread: CpuThread) -> None:
        thread.has_ended.acquire()
        thread.may_go.acquire()
        signals.block(FOR_THE_FIRST)  # also in the thread that is made now
        try:
            thread.ident = start_new_thread(self._main, (thread,))
        except RuntimeError as error:
            raise HostError(f"vCPU {thread.cpu.index} gets no thread: {error}") from None
        finally:
            if get_ident() == self.threads[0].ident:
                signals.unblock(FOR_THE_FIRST)
        self._running.append(thread)

    def _main(self, thread: CpuThread) -> None:
        try:
            ended = thread.cpu.run(thread)
            self._ended = self._ended or ended
        except Exception as error:  # the one handler at the top of this thread
            self._error = error
        self.interrupt_all()
        # What arrives from now on ends with this thread: the process may end before this thread has
        # time again, and no longer knows then what to do about signals.
        signals.block((KICK_SIGNAL,))
        thread.has_ended.release()
        thread.may_go.acquire()  # until nobody can signal it any more

    def interrupt_all(self) -> None:
        """Have all of them stop."""
        self.is_stopping = True
        for thread in self.threads:
            thread.poke()
            thread.release_kickers()
            os.eventfd_write(thread.cpu.bell, 1)

    def _stop(self) -> None:
        self.interrupt_all()
        for thread in self._running:
            if not thread.has_ended.acquire(timeout=STOP_TIMEOUT):
                raise HostError(f"vCPU {thread.cpu.index} did not stop within {STOP_TIMEOUT:g} s")
        for thread in self._running:
            thread.ident = 0
            thread.may_go.release()


def _ignore(_number: int, _frame: object) -> None:
    pass
