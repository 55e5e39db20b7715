"""One vCPU, one thread: KVM_RUN, look at the exit, serve it, again.

The thread spends its life in KVM_RUN with the interpreter lock released.  To stop it for a moment
(pause) or for good, the main thread sets kvm_run.immediate_exit and sends a signal: KVM finishes
what the last exit began, returns EINTR, and the thread parks.  A parked vCPU has no half-done
instruction, so its registers may be read and saved.
"""

from __future__ import annotations

from _thread import allocate_lock, get_ident, start_new_thread
from struct import Struct
from time import perf_counter_ns

from pyrovm.abi import kvm as abi
from pyrovm.errors import PROCESS_LIMITS, HostError, os_error
from pyrovm.host import signals
from pyrovm.virtio.counters import Latency

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.kvm.vcpu import Vcpu
    from pyrovm.machine.bus import Bus

KICK_SIGNAL = signals.SIGRTMIN
PARK_TIMEOUT = 30.0  # seconds; a vCPU that serves one exit longer than this is a bug

RUN, PARK, STOP = range(3)

_IO = Struct("<BBHIQ")  # direction, size, port, count, offset of the data in kvm_run
_MMIO = Struct("<QQIB")  # address, data, length, is_write
_EXIT_AT = abi.kvm_run.io_direction.offset
_io_at, _mmio_at = _IO.unpack_from, _MMIO.unpack_from
_IO_DATA = 4096  # KVM_PIO_PAGE_OFFSET: where kvm_run's io.data_offset always points on x86
_MMIO_DATA = abi.kvm_run.mmio_data.offset
EXIT_REASONS = 64


class VcpuOutcome:
    """Why a vCPU stopped for good: ``ok`` is the guest's own wish, else ``reason`` says."""

    __slots__ = ("index", "ok", "reason")

    def __init__(self, index: int, ok: bool, reason: str) -> None:
        self.index = index
        self.ok = ok
        self.reason = reason


def install_kick_signal() -> None:
    """Make the kick signal harmless but for interrupting; from the main thread, once."""
    signals.handle(KICK_SIGNAL, _ignore)


def _ignore(_number: int, _frame: object) -> None:
    pass


class VcpuThread:
    """Runs ``vcpu`` against ``bus``.

    Called in the thread: ``on_start`` with its name, ``on_miss`` for accesses that no device
    answers, ``on_outcome`` when the vCPU has ended by itself.
    """

    def __init__(
        self,
        vcpu: Vcpu,
        bus: Bus,
        on_outcome: Callable[[VcpuOutcome], None],
        on_miss: Callable[[str], object],
        on_start: Callable[[str], object] = lambda _name: None,
    ) -> None:
        self.vcpu = vcpu
        self._bus = bus
        self._on_outcome = on_outcome
        self._on_miss = on_miss
        self._on_start = on_start
        self._wanted = PARK
        # Both are hand-overs, not mutual exclusion: one thread takes, the other gives.
        self._parked = allocate_lock()  # free while the thread stands still, or there is none
        self._resume = allocate_lock()  # free when a parked thread may go on
        self._resume.acquire()
        self._is_started = False
        self._ident = 0  # 0 before and after the thread's life
        self._ident_lock = allocate_lock()
        self.exits = [0] * EXIT_REASONS
        self.failures = 0
        self.io_in, self.io_out = Latency(), Latency()
        self.mmio_read, self.mmio_write = Latency(), Latency()

    # --------------------------------------------------- from the main thread

    def start(self) -> None:
        """Start the thread, parked.

        Raises:
            HostError: there can be no more threads.
        """
        self._parked.acquire()
        try:
            start_new_thread(self._main, ())
        except RuntimeError:  # which says no more than that
            self._parked.release()
            raise HostError(
                f"vCPU {self.vcpu.index}: its thread cannot start ({PROCESS_LIMITS}, RLIMIT_AS)"
            ) from None
        self._is_started = True

    def resume(self) -> None:
        """Let a parked vCPU run; nothing if it has ended."""
        self._take_parked()
        if self._wanted == STOP:
            self._parked.release()
            return
        self._wanted = RUN
        self.vcpu.set_immediate_exit(False)
        self._resume.release()

    def request_park(self) -> None:
        """Ask the vCPU to park; :meth:`park` waits until it has."""
        if self._wanted == RUN:
            self._wanted = PARK
            self._kick()

    def park(self) -> None:
        """Stop the vCPU between two instructions and wait until it stands.

        Raises:
            HostError: it does not, within 30 s.
        """
        self.request_park()
        self._take_parked()
        self._parked.release()

    def stop(self) -> None:
        """End the thread and wait until it has.

        Raises:
            HostError: it does not, within 30 s.
        """
        self.park()
        if self._wanted != STOP and self._is_started:
            self._take_parked()
            self._wanted = STOP
            self._resume.release()
            self.park()

    def _kick(self) -> None:
        self.vcpu.set_immediate_exit(True)
        with self._ident_lock:  # a thread that has ended must not be signalled
            if self._ident:
                signals.kill_thread(self._ident, KICK_SIGNAL)

    def _take_parked(self) -> None:
        if not self._parked.acquire(timeout=PARK_TIMEOUT):
            raise HostError(f"vCPU {self.vcpu.index} did not stop within {PARK_TIMEOUT:g} s")

    # ---------------------------------------------------------- in the thread

    def _main(self) -> None:
        self._ident = get_ident()
        name = f"fc_vcpu {self.vcpu.index}"
        name_thread(name)
        self._on_start(name)
        try:
            self._park_here()
            outcome = None if self._wanted == STOP else self._run()
        except Exception as error:  # the one handler at the top of this thread
            import traceback

            text = f"internal error: {error!r}\n{traceback.format_exc()}"
            outcome = VcpuOutcome(self.vcpu.index, False, text)
        self._wanted = STOP
        with self._ident_lock:
            self._ident = 0
        self._parked.release()
        if outcome is not None:
            self._on_outcome(outcome)

    def _park_here(self) -> None:
        self._parked.release()
        self._resume.acquire()  # whoever released it took _parked first

    def _run(self) -> VcpuOutcome | None:
        """The exit loop; None when asked to stop.  hot: all of it."""
        run = self.vcpu.run
        page = self.vcpu.page
        reason_of = self.vcpu.exit_reason
        exits = self.exits
        byte_reads, byte_writes = self._bus.byte_reads, self._bus.byte_writes
        key_of = page[_EXIT_AT : _EXIT_AT + 8].cast("Q")
        io_in, io_out = self.io_in, self.io_out
        while True:
            try:
                run()
            except InterruptedError:
                if self._wanted != RUN:
                    if self._wanted == PARK:
                        self._park_here()
                    if self._wanted == STOP:
                        return None
                continue
            except BlockingIOError:  # a vCPU that waited for its start-up IPI has been woken
                continue
            except OSError as error:
                return self._failed_run(error)
            reason = reason_of[0]
            exits[reason] += 1
            if reason == abi.KVM_EXIT_MMIO:
                self._mmio(page)
            elif reason == abi.KVM_EXIT_IO:
                key = key_of[0]
                if key in byte_reads:
                    page[_IO_DATA] = byte_reads[key]()
                    io_in.count += 1
                elif key in byte_writes:
                    byte_writes[key](page[_IO_DATA])
                    io_out.count += 1
                else:
                    self._io(page)
            else:
                outcome = self._other(reason)
                if outcome is not None:
                    return outcome

    def _io(self, page: memoryview) -> None:
        start = perf_counter_ns()
        direction, size, port, count, at = _io_at(page, _EXIT_AT)
        entry = self._bus.ports.get(port)
        if direction:
            if entry is None:
                self._on_miss(f"write to unknown port {port:#x}")
            elif size * count == 1:  # nearly all of them: a serial console's are many
                with entry.lock:
                    entry.device.write(port - entry.base, 1, page[at])
            else:
                with entry.lock:
                    for offset in range(at, at + size * count, size):
                        value = int.from_bytes(page[offset : offset + size], "little")
                        entry.device.write(port - entry.base, size, value)
            self.io_out.add(perf_counter_ns() - start)
            return
        if entry is None:
            self._on_miss(f"read of unknown port {port:#x}")
            page[at : at + size * count] = bytes(size * count)
        elif size * count == 1:
            with entry.lock:
                page[at] = entry.device.read(port - entry.base, 1)
        else:
            with entry.lock:
                for offset in range(at, at + size * count, size):
                    value = entry.device.read(port - entry.base, size)
                    page[offset : offset + size] = value.to_bytes(size, "little")
        self.io_in.add(perf_counter_ns() - start)

    def _mmio(self, page: memoryview) -> None:
        start = perf_counter_ns()
        address, value, size, is_write = _mmio_at(page, _EXIT_AT)
        entry = self._bus.pages.get(address >> 12)
        if is_write:
            if entry is None:
                self._on_miss(f"write to unknown address {address:#x}")
            else:
                value &= (1 << 8 * size) - 1
                with entry.lock:
                    entry.device.write(address - entry.base, size, value)
            self.mmio_write.add(perf_counter_ns() - start)
            return
        if entry is None:
            self._on_miss(f"read of unknown address {address:#x}")
            value = 0
        else:
            with entry.lock:
                value = entry.device.read(address - entry.base, size)
        page[_MMIO_DATA : _MMIO_DATA + size] = value.to_bytes(size, "little")
        self.mmio_read.add(perf_counter_ns() - start)

    def _other(self, reason: int) -> VcpuOutcome | None:
        """An exit that is no device access: None to go on."""
        run = self.vcpu.run_struct
        index = self.vcpu.index
        if reason in (abi.KVM_EXIT_INTR, abi.KVM_EXIT_IRQ_WINDOW_OPEN):
            return None
        if reason == abi.KVM_EXIT_SYSTEM_EVENT and run.system_event_type in (
            abi.KVM_SYSTEM_EVENT_RESET,
            abi.KVM_SYSTEM_EVENT_SHUTDOWN,
        ):
            return VcpuOutcome(index, True, "the guest asked KVM to stop the machine")
        self.failures += 1
        if reason == abi.KVM_EXIT_SHUTDOWN:
            return VcpuOutcome(index, False, "triple fault")
        if reason == abi.KVM_EXIT_HLT:
            return VcpuOutcome(index, False, "the vCPU halted and nothing can wake it")
        if reason == abi.KVM_EXIT_FAIL_ENTRY:
            code = run.fail_entry_hardware_entry_failure_reason
            return VcpuOutcome(index, False, f"KVM could not enter the guest (reason {code:#x})")
        if reason == abi.KVM_EXIT_INTERNAL_ERROR:
            return VcpuOutcome(index, False, self._internal_error())
        return VcpuOutcome(index, False, f"unexpected KVM exit {reason}")

    def _internal_error(self) -> str:
        run = self.vcpu.run_struct
        text = f"KVM internal error {run.internal_suberror}"
        if run.internal_suberror == abi.KVM_INTERNAL_ERROR_EMULATION:
            size = min(run.emulation_failure_insn_size, 15)
            code = bytes(run.emulation_failure_insn_bytes[:size]).hex(" ") if size else "unknown"
            text += f": it cannot emulate the instruction {code}"
        try:
            text += f" at rip {self.vcpu.regs().rip:#x}"
        except HostError:
            pass
        return text

    def _failed_run(self, error: OSError) -> VcpuOutcome:
        self.failures += 1
        text = f"KVM_RUN failed: {os_error(error)}"
        if error.errno == 38:
            text = "Received ENOSYS error because KVM failed to emulate an instruction."
        elif error.errno == 14:
            text += "; the guest reached memory that its host mapping does not allow"
        return VcpuOutcome(self.vcpu.index, False, text)


def name_thread(name: str) -> None:
    """Show this thread as ``name`` in /proc and ps (at most 15 bytes)."""
    try:
        with open("/proc/thread-self/comm", "w") as comm:
            comm.write(name[:15])
    except OSError:  # no /proc in a jail: a nicety, not a need
        pass
