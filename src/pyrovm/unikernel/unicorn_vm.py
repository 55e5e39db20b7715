"""A program's VM without KVM: Unicorn emulates the CPU (the optional extra ``pyrovm[unicorn]``).

It is the same guest with the same memory.  What a software-only KVM does for ring 3 is done here:
SYSCALL goes to LSTAR and stays in ring 3, and an exception ends up at the library OS's fault_entry.
The stubs of ring 0 in between (libos/entry.S) never run; their work is done here as well.
"""

from __future__ import annotations

from struct import Struct

from pyrovm.abi import libos as abi
from pyrovm.errors import HostError, Unsupported
from pyrovm.host import mapping
from pyrovm.memory.guest_memory import GuestMemory, Region
from pyrovm.unikernel import initial, library_os, tables, unicorn_cpu
from pyrovm.unikernel.calls import TIMED_OUT, Ended
from pyrovm.unikernel.stopper import Stopper
from pyrovm.unikernel.waiting import Waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.host.mapping import Mapping
    from pyrovm.unikernel.calls import Calls
    from pyrovm.unikernel.program import Program
    from pyrovm.unikernel.unicorn_cpu import UnicornCpu

MADV_DONTNEED = 4
BREAKPOINT, INVALID_OPCODE, PROTECTION, PAGE_FAULT = 3, 6, 13, 14
INT_SIZE = 2

_FRAME = Struct("<7Q")  # vector, error code, rip, cs, rflags, rsp, ss: as fault_entry expects it
_FRAME_AT = tables.cpu_gpa(0) + abi.PV_CPU_IST + tables.PAGE - _FRAME.size


class UnicornVm:
    """One VM, as ``ProgramVm`` is one; ``close`` gives everything back."""

    def __init__(self, program: Program, libos_path: str) -> None:
        """Build it, ready to run.

        Raises:
            Unsupported: Unicorn is not installed; several CPUs are asked for.
            HostError: the image or the library OS cannot be used.
        """
        if program.cpus != 1:
            raise Unsupported(f"cpus: {program.cpus} given; Unicorn runs 1, more need KVM")
        self.exits = 0
        self._closers: list[Mapping | UnicornCpu] = []
        try:
            self._build(program, libos_path)
        except BaseException:
            self.close()
            raise

    def _build(self, program: Program, libos_path: str) -> None:
        libos, self.header = library_os.open_file(libos_path)
        self._closers.append(libos)
        self.ram = ram = mapping.anonymous(program.memory)
        self._closers.append(ram)
        image = initial.map_image(program.image) if program.image else None
        regions = [Region(0, ram.view, ram.address)]
        if image:
            self._closers.append(image)
            regions.append(Region(abi.PV_IMAGE_GPA, image.view, image.address))
        self.memory = GuestMemory(regions)
        self.memory.track_dirty(True)
        self._emulator = emulator = unicorn_cpu.UnicornCpu()
        self._closers.append(emulator)
        self.page = emulator.run_page  # for Waiting
        emulator.map(0, ram.size, unicorn_cpu.READ_WRITE, ram.address)
        for gpa, file in ((abi.PV_LIBOS_GPA, libos), (abi.PV_IMAGE_GPA, image)):
            if file:
                size = -(-file.size // tables.PAGE) * tables.PAGE
                emulator.map(gpa, size, unicorn_cpu.READ_ONLY, file.address)
        header = self.header
        self.boot, made = initial.write_machine(ram.view, header, abi.PV_ENGINE_UNICORN)
        image_size = image.size if image else 0
        initial.write_program(ram.view, self.boot, made, program, image_size)
        self.cpu = abi.pv_cpu(ram.view, tables.cpu_gpa(0))
        emulator.on_syscall(header.syscall_entry)
        emulator.on_exception(self._on_exception)
        emulator.on_call(self._on_call)
        emulator.set_registers(
            ram.view, self.boot.page_table_gpa, libos.view, header.code_start, header.entry
        )

    # ------------------------------------------------------------------------------- running

    def run(self, calls: Calls) -> Ended:
        """Run the guest to its end, serving its calls; from the main thread.

        Raises:
            HostError: the guest did what no library OS does; the message says what.
        """
        emulator, waiting, page = self._emulator, calls.waiting, self.page
        self._calls = calls
        emulator.set_clock(self.boot)
        stopper = Stopper(page)
        try:
            while True:
                try:
                    emulator.run()
                except unicorn_cpu.InvalidInstruction:
                    self._deliver(INVALID_OPCODE, 0, emulator.read(emulator.RIP))
                except unicorn_cpu.NoMemory as error:
                    raise HostError(
                        f"The guest accessed what is no memory ({error}) at {self._where()}"
                    ) from None
                page[1] = 0
                if waiting.is_overdue:
                    return Ended(TIMED_OUT)
                self._interrupted(waiting)
        except Ended as ended:
            return ended
        finally:
            stopper.close()

    def make_waiting(self) -> Waiting:
        """What the guest waits with; from the main thread, whose signals it takes over."""
        return Waiting(self.page)

    def _on_call(self, offset: int, arguments: tuple[int, ...]) -> int:
        """hot: per hypercall."""
        calls = self._calls
        number = offset >> 3
        if number >= abi.PV_CALLS:
            raise unicorn_cpu.NoMemory(f"{abi.PV_CALL_GPA + offset:#x}")
        a, b, c, d, e, f = arguments
        self.exits += 1
        result = calls.handlers[number](a, b, c, d, e, f)
        if calls.waiting.is_overdue:
            raise Ended(TIMED_OUT)
        for page in self.memory.take_dirty():  # written by the host; code may have been there
            self._emulator.forget_code(initial.CODE_ALIAS + page * tables.PAGE, tables.PAGE)
        return result

    def _interrupted(self, waiting: Waiting) -> None:
        """A signal came: tell the guest what is pending, at once if it is in its program."""
        pending, signals = waiting.take_pending()
        if not pending:
            return
        cpu, emulator = self.cpu, self._emulator
        cpu.signals |= signals
        cpu.pending |= pending
        rip = emulator.read(emulator.RIP)
        if self.header.return_start <= rip < self.header.return_end:
            emulator.write(emulator.RIP, self.header.return_entry)
            return
        if self._is_library_os(rip):
            return
        cpu.user_rip, cpu.user_rsp = rip, emulator.read(emulator.RSP)
        cpu.user_rflags = emulator.read(emulator.FLAGS)
        emulator.write(emulator.RSP, cpu.kernel_stack)
        emulator.write(emulator.RIP, self.header.upcall_entry)

    def _is_library_os(self, rip: int) -> bool:
        return self.header.code_start <= rip < self.header.code_end

    # ---------------------------------------------------------------------------- exceptions

    def _on_exception(self, vector: int) -> None:
        emulator = self._emulator
        rip, code = emulator.read(emulator.RIP), emulator.take_error_code()
        if vector == BREAKPOINT and self._is_library_os(rip - 1):
            emulator.flush_tlb()  # it has no other INT3 than flush_tlb()'s
            return
        if vector == PAGE_FAULT:
            self.cpu.fault_address = emulator.read(emulator.CR2)
        elif vector >= abi.PV_VECTORS:  # INT n: beyond the IDT
            vector, code, rip = PROTECTION, vector << 3 | 2, rip - INT_SIZE
        self._deliver(vector, code, rip)

    def _deliver(self, vector: int, code: int, rip: int) -> None:
        """Do what the CPU and the stub of ``vector`` would."""
        emulator = self._emulator
        flags, rsp = emulator.read(emulator.FLAGS), emulator.read(emulator.RSP)
        _FRAME.pack_into(
            *(self.ram.view, _FRAME_AT, vector, code),
            *(rip, abi.PV_USER_CODE, flags, rsp, abi.PV_USER_DATA),
        )
        emulator.write(emulator.FLAGS, 2)
        emulator.write(emulator.RSP, self.cpu.fault_stack)
        emulator.write(emulator.RIP, self.header.fault_entry)

    def discard(self, gpa: int, size: int) -> None:
        """Give a page-aligned part of RAM back to the host; it reads as zeros afterwards."""
        self.ram.advise(MADV_DONTNEED, gpa, size)

    def _where(self) -> str:
        return f"rip {self._emulator.read(self._emulator.RIP):#x}"

    def close(self) -> None:
        """Give back the emulator and the memory."""
        if hasattr(self, "cpu"):
            self.cpu.view.release()
            self.boot.view.release()
        if hasattr(self, "memory"):
            self.memory.release()
        while self._closers:
            self._closers.pop().close()
