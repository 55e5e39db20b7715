"""One vCPU of a program's VM: its registers at the start, and the loop that serves its calls.

The guest is interrupted by its registers (libos/abi.h): where the vCPU is stopped in the program,
it goes on in the library OS.
"""

from __future__ import annotations

import os
from struct import Struct

from pyrovm.abi import kvm as kvm_abi
from pyrovm.abi import libos as abi
from pyrovm.arch.x86 import regs as x86
from pyrovm.errors import HostError
from pyrovm.unikernel import tables
from pyrovm.unikernel.calls import TIMED_OUT, Ended

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.kvm.vcpu import Vcpu
    from pyrovm.unikernel.calls import Calls
    from pyrovm.unikernel.library_os import Header
    from pyrovm.unikernel.smp import CpuThread
    from pyrovm.unikernel.waiting import Waiting

CR0 = 0x80050033  # PE MP ET NE WP AM PG
CR4 = 0x50620  # PAE OSFXSR OSXMMEXCPT FSGSBASE OSXSAVE
EFER = 0xD01  # SCE LME LMA NXE

MSR_STAR, MSR_LSTAR, MSR_SFMASK = 0xC0000081, 0xC0000082, 0xC0000084
MSR_GS_BASE = 0xC0000101
STAR = 0x23 << 48 | abi.PV_KERNEL_CODE << 32
SFMASK = 0x47700

_MMIO = Struct("<QQIB")  # address, data, length, is_write
_MMIO_AT = kvm_abi.kvm_run.mmio_phys_addr.offset
_DIRTY_AT = kvm_abi.kvm_run.kvm_dirty_regs.offset
_REGS_AT = kvm_abi.kvm_run.s_regs_regs.offset
# rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags
_REGS = Struct("<18Q")


class ProgramCpu:
    """vCPU ``index`` of a VM; ``area`` is its struct pv_cpu in ``ram``.

    ``exits`` counts its calls and interruptions once :meth:`run` has returned; ``bell`` is an
    eventfd that ends its waiting where it is not the only vCPU, else -1.
    """

    def __init__(self, vcpu: Vcpu, index: int, ram: memoryview, header: Header) -> None:
        self.vcpu = vcpu
        self.index = index
        self.area = abi.pv_cpu(ram, tables.cpu_gpa(index))
        self.exits = 0
        self.bell = -1
        self._header = header
        vcpu.run_struct.kvm_valid_regs = kvm_abi.KVM_SYNC_X86_REGS

    def set_registers(self, cr3: int, xcr0: int, vcpu_count: int) -> None:
        """Set them as the library OS expects them where it starts; CPUID is known to KVM.

        Raises:
            HostError: KVM refuses some.
        """
        vcpu, index = self.vcpu, self.index
        sregs = vcpu.sregs()
        sregs.cs = x86.segment(0xA0FB, 0, 0xFFFFF, abi.PV_USER_CODE)
        data = x86.segment(0xC0F3, 0, 0xFFFFF, abi.PV_USER_DATA)
        sregs.ds = sregs.es = sregs.fs = sregs.ss = data
        sregs.gs = data
        gs_base = tables.linear(tables.cpu_gpa(index))
        sregs.gs.base = gs_base
        tss = tables.linear(tables.cpu_gpa(index) + abi.PV_CPU_TSS)
        sregs.tr = x86.segment(0x008B, tss, tables.TSS_LIMIT, abi.PV_TSS + 16 * index)
        sregs.gdt.base = tables.linear(abi.PV_GDT_GPA)
        sregs.gdt.limit = tables.gdt_limit(vcpu_count)
        sregs.idt.base = tables.linear(abi.PV_IDT_GPA)
        sregs.idt.limit = abi.PV_VECTORS * 16 - 1
        sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer = CR0, cr3, CR4, EFER
        vcpu.set_sregs(sregs)
        xcrs = kvm_abi.kvm_xcrs()
        xcrs.nr_xcrs = 1
        xcrs.xcrs[0].value = xcr0
        vcpu.set_xcrs(xcrs)
        vcpu.set_msrs(
            {
                MSR_STAR: STAR,
                MSR_LSTAR: self._header.syscall_entry,
                MSR_SFMASK: SFMASK,
                MSR_GS_BASE: gs_base,
            }
        )
        state = kvm_abi.kvm_regs()
        state.rip = self._header.entry
        state.rsp = tables.linear(tables.cpu_gpa(index + 1))
        state.rdi = tables.linear(abi.PV_BOOT_GPA)
        state.rflags = x86.RFLAGS_RESERVED
        vcpu.set_regs(state)

    def run(self, calls: Calls | CpuThread) -> Ended | None:
        """Run it to the guest's end, serving its calls, or until a pause (None).

        hot: per exit.

        Raises:
            HostError: the guest did what no library OS does; the message says what.
        """
        vcpu = self.vcpu
        run, page, reason_of = vcpu.run, vcpu.page, vcpu.exit_reason
        unpack, mmio = _REGS.unpack_from, _MMIO.unpack_from
        dirty = page[_DIRTY_AT : _DIRTY_AT + 8].cast("Q")
        rax = page[_REGS_AT : _REGS_AT + 8].cast("Q")
        handlers, waiting = calls.handlers, calls.waiting
        count = 0
        try:
            while True:
                try:
                    run()
                except InterruptedError:
                    page[1] = 0
                    if waiting.is_overdue:
                        return Ended(TIMED_OUT)
                    if waiting.take_pause():  # KVM has done what the last exit has left to do
                        return None
                    self._interrupted(waiting)
                    continue
                except OSError as error:
                    raise self.failed_run(error) from None
                if reason_of[0] != kvm_abi.KVM_EXIT_MMIO:
                    raise HostError(self.unexpected(reason_of[0]))
                address, _, size, is_write = mmio(page, _MMIO_AT)
                number, rest = divmod(address - abi.PV_CALL_GPA, 8)
                if rest or size != 8 or not is_write or not 0 <= number < abi.PV_CALLS:
                    raise HostError(f"The guest accessed {address:#x}, which is no memory")
                regs = unpack(page, _REGS_AT)
                result = handlers[number](regs[5], regs[4], regs[3], regs[10], regs[8], regs[9])
                if waiting.is_overdue:
                    return Ended(TIMED_OUT)
                count += 1
                rax[0] = result & 0xFFFF_FFFF_FFFF_FFFF
                dirty[0] = kvm_abi.KVM_SYNC_X86_REGS
        except Ended as ended:
            return ended
        finally:
            self.exits += count
            dirty.release()
            rax.release()

    def _interrupted(self, waiting: Waiting | CpuThread) -> None:
        self.exits += 1
        pending, signals = waiting.take_pending()
        if pending:
            self.interrupt(pending, signals)

    def interrupt(self, pending: int, signals: int = 0) -> None:
        """Tell the guest what is pending, at once if it is in its program.  The vCPU is stopped."""
        area, page = self.area, self.vcpu.page
        area.signals |= signals
        area.pending |= pending
        regs = kvm_abi.kvm_regs(page, _REGS_AT)
        rip, header = regs.rip, self._header
        if header.return_start <= rip < header.return_end:
            regs.rip = header.return_entry
        elif header.code_start <= rip < header.code_end or self._takes_exception():
            return
        else:
            area.user_rip, area.user_rsp, area.user_rflags = rip, regs.rsp, regs.rflags
            regs.rip = header.upcall_entry
            regs.rsp = area.kernel_stack
        self.vcpu.run_struct.kvm_dirty_regs = kvm_abi.KVM_SYNC_X86_REGS

    def _takes_exception(self) -> bool:
        """Whether one is being delivered, which goes on wherever RIP points, and leads into the
        library OS anyway."""
        events = self.vcpu.vcpu_events()
        return bool(events.exception_injected or events.exception_pending)

    def _where(self) -> str:
        try:
            return f"rip {self.vcpu.regs().rip:#x}"
        except HostError:
            return "an unknown place"

    def failed_run(self, error: OSError) -> HostError:
        """What to raise where KVM_RUN has failed."""
        return HostError.wrap(f"KVM_RUN failed at {self._where()}", error)

    def unexpected(self, reason: int) -> str:
        """What an exit means that is no call."""
        if reason == kvm_abi.KVM_EXIT_SHUTDOWN:
            return f"The guest's CPU has shut down (triple fault) at {self._where()}"
        if reason == kvm_abi.KVM_EXIT_INTERNAL_ERROR:
            suberror = self.vcpu.run_struct.internal_suberror
            return f"KVM internal error {suberror} at {self._where()}"
        return f"Unexpected KVM exit {reason} at {self._where()}"

    def close(self) -> None:
        """Give the vCPU back."""
        if self.bell >= 0:
            os.close(self.bell)
        self.area.view.release()
        self.vcpu.close()
