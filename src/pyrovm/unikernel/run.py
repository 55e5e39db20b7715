"""Run one program in a VM of its own, as if it were a process: its streams, signals and status."""

from __future__ import annotations

from time import perf_counter_ns

from pyrovm.abi import libos as abi
from pyrovm.unikernel.calls import TIMED_OUT, Calls
from pyrovm.unikernel.engine import engine_name, open_vm
from pyrovm.unikernel.stdio import Stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.unikernel.prepared import Prepared
    from pyrovm.unikernel.program import Program
    from pyrovm.unikernel.saving import Saved
    from pyrovm.unikernel.unicorn_vm import UnicornVm
    from pyrovm.unikernel.vm import ProgramVm

SIGNALLED = 128  # plus the signal's number: what a shell says of a program that a signal has ended


class Outcome:
    """How it ended: ``status`` as a shell has it; times in ns of ``perf_counter``."""

    def __init__(self) -> None:
        self.status = 0
        self.signal = 0  # that has ended it, if one has
        self.timed_out = False
        self.engine = ""  # hardware, software (KVM) or unicorn
        self.cpus = 1
        self.panic = ""  # the library OS's last words, where it gave up
        self.exits = 0
        self.started_ns = perf_counter_ns()
        self.built_ns = 0
        self.ended_ns = 0


class Pause:
    """A run at a standstill, with all that a branch of it has to renew."""

    def __init__(
        self, vm: ProgramVm | UnicornVm, calls: Calls, stdio: Stdio, outcome: Outcome
    ) -> None:
        self.vm, self.calls, self.stdio, self.outcome = vm, calls, stdio, outcome


def run(
    program: Program,
    libos_path: str,
    *,
    engine: str = "auto",
    streams: tuple[int, int, int] = (0, 1, 2),
    log_fd: int = 2,
    timeout: float | None = None,
    prepare: Callable[[Calls], Callable[[], None]] | None = None,
    ended: Callable[[Outcome], None] | None = None,
    paused: Callable[[Pause], None] | None = None,
    prepared: Prepared | Saved | None = None,
) -> Outcome:
    """Run ``program`` to its end; from the main thread, whose signals go to the program meanwhile.

    Args:
        engine: ``kvm``, ``unicorn``, or ``auto`` (KVM where there is one).
        streams: descriptors that the program has as standard input, output and error.
        log_fd: where the library OS's own remarks and traces go.
        timeout: seconds; the program is ended then, with status 124.
        prepare: is given the calls before the start, to add handlers (sockets, folders); what it
            returns is called at the end.
        ended: is called when the program has ended, before its VM is taken apart, which may take
            longer than a short program.
        paused: is called when somebody has asked for a pause (``calls.waiting.ask_pause``); it may
            fork the process.  When it returns, the program goes on.
        prepared: a VM that may be there already.

    Raises:
        HostError: KVM or the image cannot be used; the guest did what no library OS does.
    """
    outcome = Outcome()
    stdio = Stdio(streams, log_fd)
    try:
        program.flags |= stdio.terminal_flags()
        vm = (prepared.open_vm if prepared else open_vm)(program, libos_path, engine)
        try:
            outcome.engine = engine_name(vm.boot.engine)
            outcome.cpus = vm.boot.vcpu_count
            _run(vm, outcome, stdio, timeout, prepare, paused)
            stdio.close()  # whoever reads them need not wait for the rest
            if ended:
                ended(outcome)
        finally:
            vm.close()
    finally:
        stdio.close()
    return outcome


def _run(
    vm: ProgramVm | UnicornVm,
    outcome: Outcome,
    stdio: Stdio,
    timeout: float | None,
    prepare: Callable[[Calls], Callable[[], None]] | None,
    paused: Callable[[Pause], None] | None,
) -> None:
    waiting = vm.make_waiting()
    calls = Calls(vm.memory, vm.ram.size, waiting, vm.discard, stdio.fds)
    finish = None
    try:
        if timeout is not None:
            waiting.set_deadline(timeout)
        finish = prepare(calls) if prepare else None
        outcome.built_ns = perf_counter_ns()
        ended = None
        while ended is None:
            # A VM that was saved rests before it runs.
            ended = None if waiting.take_pause() else vm.run(calls)
            if ended is None and paused:
                paused(Pause(vm, calls, stdio, outcome))
    finally:
        outcome.ended_ns = perf_counter_ns()
        outcome.exits = vm.exits
        calls.close()
        if finish:
            finish()
        waiting.close()
    outcome.panic = ended.panic
    outcome.timed_out = waiting.is_overdue and ended.status == TIMED_OUT
    is_signal = ended.status >= abi.PV_EXIT_SIGNAL
    outcome.signal = ended.status & 0x7F if is_signal else 0
    outcome.status = SIGNALLED + outcome.signal if is_signal else ended.status
