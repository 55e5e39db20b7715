"""Unicorn as one x86-64 CPU in ring 3: memory, registers, and what its program runs into.

Unicorn 2.1 has its own ways: the callback for SYSCALL runs before RIP is moved behind the
instruction; a store of 8 bytes to MMIO comes as two of 4; INT3 and INT n report a RIP behind them;
an invalid instruction ends the run with an error; what a callback raises is raised by the run after
it has stopped; ring 3 is not entered by writing CS, but by IRETQ.

Two things it does not tell nor let be set, so they are read and written in a saved context, which
is a copy of QEMU's CPUX86State up to ``end_reset_fields``: the error code of an exception, and
which exception is in flight, since Unicorn never learns that it has been dealt with and makes a
double fault of the next.
"""

from __future__ import annotations

import ctypes
import time
from struct import Struct

from pyrovm.abi import libos as abi
from pyrovm.errors import Unsupported
from pyrovm.unikernel import tables
from pyrovm.unikernel.unicorn_hooks import Hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ_WRITE, READ_ONLY = 7, 5  # UC_PROT_READ, _WRITE, _EXEC
CR0 = 0x80050033  # PE MP ET NE WP AM PG
CR4 = 0x10620  # PAE OSFXSR OSXMMEXCPT FSGSBASE; no OSXSAVE, so that programs leave AVX alone
EFER, MSR_EFER = 0xD01, 0xC0000080  # SCE LME LMA NXE
# A run has to be told where to stop: never, so in the library OS's header.  Unicorn looks it up in
# the page tables, and the fault of an address that is not there would be in flight for ever.
NOWHERE = abi.PV_LIBOS_VA + 16
IRETQ = b"\x48\xcf"
LFENCE_RDTSC = b"\x0f\xae\xe8\x0f\x31"
INVALID_INSTRUCTION = 10  # UC_ERR_INSN_INVALID
CALIBRATION_NS = 20_000_000  # at least; of the TSC against the clock

# Bytes before the context's end, in Unicorn 2.1 (qemu/target/i386/cpu.h): int error_code, and
# int old_exception, -1 for none.
_ERROR_CODE, _OLD_EXCEPTION = 184, 72
_NONE = (1 << 32) - 1

_IRET_FRAME = Struct("<5Q")


def is_there() -> bool:
    """Whether the package is installed; it is not loaded."""
    from importlib.util import find_spec

    return find_spec("unicorn") is not None


def _library() -> ctypes.CDLL:
    from unicorn.unicorn_py3.unicorn import uclib

    library: ctypes.CDLL = uclib
    return library


def _function(name: str) -> int:
    """The address of one of Unicorn's functions."""
    address = ctypes.cast(getattr(_library(), name), ctypes.c_void_p).value
    assert address is not None
    return address


class NoMemory(Exception):
    """The guest has used guest-physical addresses that are no memory, or are read-only."""


class InvalidInstruction(Exception):
    """What #UD is raised for; RIP is at the instruction."""


class UnicornCpu:
    """The CPU.  A run ends at the next block of instructions once ``run_page[1]`` is not 0."""

    def __init__(self) -> None:
        """Load Unicorn.

        Raises:
            Unsupported: it is not installed, or cannot be loaded.
        """
        try:
            import unicorn
            from unicorn import x86_const as reg
        except ImportError as error:
            raise Unsupported(
                f"Unicorn cannot be loaded ({error}); pip install 'pyrovm[unicorn]' installs it"
            ) from None
        self._error = unicorn.UcError
        self._hook_instruction, self._hook_interrupt = unicorn.UC_HOOK_INSN, unicorn.UC_HOOK_INTR
        # Haswell less all that Unicorn has not, AVX above all: SSE4.2, BMI, x86-64-v2.
        model = reg.UC_CPU_X86_HASWELL
        self._uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64, model)
        self._reg = reg
        self.map = self._uc.mem_map_ptr
        self.read, self.write = self._uc.reg_read, self._uc.reg_write
        self.read_batch = self._uc.reg_read_batch
        self.RIP, self.RSP, self.RAX = reg.UC_X86_REG_RIP, reg.UC_X86_REG_RSP, reg.UC_X86_REG_RAX
        self.CR2, self.FLAGS = reg.UC_X86_REG_CR2, reg.UC_X86_REG_EFLAGS
        self._first_sample = (0, 0)
        self._refused: NoMemory | None = None
        self._context = self._uc.context_save()
        size = self._context.size
        at = ctypes.cast(self._context.context, ctypes.c_void_p).value
        assert at is not None
        fields = memoryview((ctypes.c_ubyte * size).from_address(at)).cast("B")
        self._error_code = fields[size - _ERROR_CODE :][:4].cast("I")
        self._old_exception = fields[size - _OLD_EXCEPTION :][:4].cast("I")
        if self._old_exception[0] != _NONE or self._error_code[0]:
            raise Unsupported(f"Unicorn {unicorn.__version__} is none that pyrovm knows: 2.1 is")
        self._hooks = Hooks()
        self.run_page = self._hooks.run_page
        # uc_emu_stop from another thread would stop in the middle of an instruction, which is then
        # done twice; a block's hook is called between instructions.
        self._add_native(unicorn.UC_HOOK_BLOCK, self._hooks.stop(_function("uc_emu_stop")))

    def _add_native(self, kind: int, code: ctypes.c_void_p, *more: object) -> None:
        """Add a hook in machine code for all addresses; the binding adds Python functions only."""
        handle = ctypes.c_size_t()
        everywhere = ctypes.c_uint64(1), ctypes.c_uint64(0)
        status = _library().uc_hook_add(
            self._uc._uch, ctypes.byref(handle), kind, code, None, *everywhere, *more
        )
        if status:
            raise self._error(status)

    def on_syscall(self, entry: int) -> None:
        """Have SYSCALL go to ``entry`` as a software-only KVM does: the ring stays as it is."""
        reg = self._reg
        code = self._hooks.syscall(
            entry,
            (self.RIP, self.FLAGS, reg.UC_X86_REG_RCX, reg.UC_X86_REG_R11),
            _function("uc_reg_read_batch"),
            _function("uc_reg_write_batch"),
        )
        self._add_native(self._hook_instruction, code, ctypes.c_int(reg.UC_X86_INS_SYSCALL))

    def on_exception(self, handler: Callable[[int], None]) -> None:
        """Have ``handler`` called with the vector of every exception and INT."""
        self._uc.hook_add(self._hook_interrupt, lambda _uc, vector, _data: handler(vector))

    def on_call(self, handler: Callable[[int, tuple[int, ...]], int]) -> None:
        """Have ``handler`` called for each hypercall, with its offset in the page and its six
        arguments; what it returns goes to RAX."""
        uc, reg, rax = self._uc, self._reg, self.RAX
        arguments = (
            *(reg.UC_X86_REG_RDI, reg.UC_X86_REG_RSI, reg.UC_X86_REG_RDX),
            *(reg.UC_X86_REG_R10, reg.UC_X86_REG_R8, reg.UC_X86_REG_R9),
        )

        def store(_uc: object, offset: int, size: int, _value: int, _data: object) -> None:
            if offset % 8 == 4 and size == 4:  # the second half of 8 bytes
                return
            if offset % 8 or size != 4:
                raise NoMemory(f"{abi.PV_CALL_GPA + offset:#x}")
            result = handler(offset, uc.reg_read_batch(arguments))
            uc.reg_write(rax, result & 0xFFFF_FFFF_FFFF_FFFF)

        def load(_uc: object, offset: int, _size: int, _data: object) -> int:
            # Raised later: the binding has no value to return for a callback that raises.
            self._refused = NoMemory(f"{abi.PV_CALL_GPA + offset:#x}")
            uc.emu_stop()
            return 0

        uc.mmio_map(abi.PV_CALL_GPA, tables.PAGE, load, None, store, None)

    def set_registers(
        self, ram: memoryview, cr3: int, libos: memoryview, code_start: int, entry: int
    ) -> None:
        """Be ready to run at ``entry`` in ring 3, with the memory that initial.py has written."""
        reg, write = self._reg, self.write
        write(reg.UC_X86_REG_GDTR, (0, tables.linear(abi.PV_GDT_GPA), tables.gdt_limit(1), 0))
        write(reg.UC_X86_REG_CR3, cr3)
        write(reg.UC_X86_REG_CR4, CR4)
        write(reg.UC_X86_REG_MSR, (MSR_EFER, EFER))
        write(reg.UC_X86_REG_CR0, CR0)
        code = bytes(libos)
        self._rdtsc = code_start + code.index(LFENCE_RDTSC)
        self._first_sample = self._sample()
        frame = tables.cpu_gpa(1) - _IRET_FRAME.size
        _IRET_FRAME.pack_into(
            *(ram, frame, entry, abi.PV_USER_CODE, 2),
            *(tables.linear(tables.cpu_gpa(1)), abi.PV_USER_DATA),
        )
        write(self.RSP, tables.linear(frame))
        write(reg.UC_X86_REG_RDI, tables.linear(abi.PV_BOOT_GPA))
        write(reg.UC_X86_REG_GS_BASE, tables.linear(tables.cpu_gpa(0)))
        write(self.RIP, code_start + code.index(IRETQ))

    def _sample(self) -> tuple[int, int]:
        """The TSC as the guest sees it and the monotonic clock in ns, of one moment."""
        best, sample = 1 << 63, (0, 0)
        for _ in range(5):
            before = time.monotonic_ns()
            self._uc.emu_start(self._rdtsc, self._rdtsc + len(LFENCE_RDTSC))
            after = time.monotonic_ns()
            if after - before < best:
                low = self.read(self.RAX) & 0xFFFF_FFFF
                high = self.read(self._reg.UC_X86_REG_RDX) & 0xFFFF_FFFF
                best, sample = after - before, (high << 32 | low, (before + after) // 2)
        return sample

    def set_clock(self, boot: abi.pv_boot) -> None:
        """Set the clock to now, and say how fast the TSC runs, as measured since
        :meth:`set_registers`; before the first run."""
        missing = self._first_sample[1] + CALIBRATION_NS - time.monotonic_ns()
        if missing > 0:
            time.sleep(missing / 1e9)
        saved = self.read(self.RIP)
        tsc, now = self._sample()
        self.write(self.RIP, saved)
        boot.tsc_khz = (tsc - self._first_sample[0]) * 1_000_000 // (now - self._first_sample[1])
        boot.tsc_base, boot.monotonic_base_ns = tsc, now
        boot.realtime_base_ns = time.time_ns() - (time.monotonic_ns() - now)

    def flush_tlb(self) -> None:
        """As writing CR3 does."""
        cr3 = self._reg.UC_X86_REG_CR3
        self.write(cr3, self.read(cr3))

    def take_error_code(self) -> int:
        """That of the exception which is being handled; it is no longer in flight."""
        self._uc.context_update(self._context)
        self._old_exception[0] = _NONE
        self._uc.context_restore(self._context)
        return self._error_code[0]

    def forget_code(self, address: int, size: int) -> None:
        """Say that the host has written there: what has been translated of it is void."""
        self._uc.ctl_remove_cache(address, address + size)

    def run(self) -> None:
        """Run until ``run_page[1]`` says so, or until a callback raises something, which is raised
        here.

        Raises:
            InvalidInstruction: see there.
            NoMemory: see there.
        """
        try:
            self._uc.emu_start(self.read(self.RIP), NOWHERE)
        except self._error as error:
            if error.errno == INVALID_INSTRUCTION:
                raise InvalidInstruction from None
            raise NoMemory(str(error)) from None
        if self._refused:
            raise self._refused

    def close(self) -> None:
        """Let go of Unicorn, which refers to us by its callbacks."""
        self.__dict__.clear()
