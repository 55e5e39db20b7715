"""Run one program in a VM of its own, as if it were a process: its streams, signals and status."""

from __future__ import annotations

import os
import stat
from time import perf_counter_ns

from pyrovm.abi import libos as abi
from pyrovm.errors import HostError
from pyrovm.unikernel.calls import TIMED_OUT, Calls
from pyrovm.unikernel.engine import engine_name, open_vm
from pyrovm.unikernel.waiting import Waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.unikernel.program import Program
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
        self.panic = ""  # the library OS's last words, where it gave up
        self.exits = 0
        self.started_ns = perf_counter_ns()
        self.built_ns = 0
        self.ended_ns = 0


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

    Raises:
        HostError: KVM or the image cannot be used; the guest did what no library OS does.
    """
    outcome = Outcome()
    own, opened = _own_streams(streams)
    try:
        program.flags |= _terminal_flags(streams)
        vm = open_vm(program, libos_path, engine)
        try:
            outcome.engine = engine_name(vm.boot.engine)
            _run(vm, outcome, (*own, log_fd), timeout, prepare)
            while opened:  # whoever reads them need not wait for the rest
                os.close(opened.pop())
            if ended:
                ended(outcome)
        finally:
            vm.close()
    finally:
        for fd in opened:
            os.close(fd)
    return outcome


def _run(
    vm: ProgramVm | UnicornVm,
    outcome: Outcome,
    streams: tuple[int, int, int, int],
    timeout: float | None,
    prepare: Callable[[Calls], Callable[[], None]] | None,
) -> None:
    waiting = Waiting(vm.page)
    calls = Calls(vm.memory, vm.ram.size, waiting, vm.discard, streams)
    finish = None
    try:
        if timeout is not None:
            waiting.set_deadline(timeout)
        finish = prepare(calls) if prepare else None
        outcome.built_ns = perf_counter_ns()
        ended = vm.run(calls)
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


def _terminal_flags(streams: tuple[int, int, int]) -> int:
    flags = (abi.PV_FLAG_TTY_IN, abi.PV_FLAG_TTY_OUT, abi.PV_FLAG_TTY_ERR)
    return sum(flag for fd, flag in zip(streams, flags, strict=True) if os.isatty(fd))


def _own_streams(streams: tuple[int, int, int]) -> tuple[tuple[int, int, int], list[int]]:
    """The streams, pipes and terminals opened anew so that they do not block: a guest whose output
    nobody reads must still hear of signals.  The others keep the blocking mode they have."""
    own: list[int] = []
    opened: list[int] = []
    for number, fd in enumerate(streams):
        try:
            mode = os.fstat(fd).st_mode
        except OSError as error:
            raise HostError.wrap(f"Standard stream {number} is closed", error) from None
        if stat.S_ISFIFO(mode) or os.isatty(fd):
            access = os.O_WRONLY if number else os.O_RDONLY
            flags = access | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
            try:
                fd = os.open(f"/proc/self/fd/{fd}", flags)
                opened.append(fd)
            except OSError:  # no /proc, or not ours to open: it may block, and that is all
                pass
        own.append(fd)
    return (own[0], own[1], own[2]), opened
