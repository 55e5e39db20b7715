"""A VM of one program: memory, one vCPU, and the loop that serves it.

There is no interrupt controller and no device: the guest asks by hypercalls, and is interrupted by
its registers (libos/abi.h).  The vCPU runs in the main thread, so that a signal (a tick of the
timer, Ctrl-C) ends KVM_RUN by itself.
"""

from __future__ import annotations

from struct import Struct

from pyrovm.abi import kvm as kvm_abi
from pyrovm.abi import libos as abi
from pyrovm.arch.x86 import regs as x86
from pyrovm.errors import HostError
from pyrovm.host import mapping
from pyrovm.memory.guest_memory import GuestMemory, Region
from pyrovm.unikernel import initial, library_os, tables
from pyrovm.unikernel.calls import TIMED_OUT, Ended

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.host.mapping import Mapping
    from pyrovm.kvm.system import Kvm
    from pyrovm.kvm.vcpu import Vcpu
    from pyrovm.kvm.vm import Vm
    from pyrovm.unikernel.calls import Calls
    from pyrovm.unikernel.program import Program
    from pyrovm.unikernel.waiting import Waiting

MADV_DONTNEED = 4
SLOT_RAM, SLOT_IMAGE, SLOT_LIBOS = 0, 1, 2

CR0 = 0x80050033  # PE MP ET NE WP AM PG
CR4 = 0x50620  # PAE OSFXSR OSXMMEXCPT FSGSBASE OSXSAVE
CR4_OSXSAVE = 1 << 18
EFER = 0xD01  # SCE LME LMA NXE
XSAVE_SIZE = 2688  # enough for x87, SSE, AVX and AVX-512 in any layout

MSR_STAR, MSR_LSTAR, MSR_SFMASK = 0xC0000081, 0xC0000082, 0xC0000084
MSR_GS_BASE = 0xC0000101
STAR = 0x23 << 48 | abi.PV_KERNEL_CODE << 32
SFMASK = 0x47700

_MMIO = Struct("<QQIB")  # address, data, length, is_write
_MMIO_AT = kvm_abi.kvm_run.mmio_phys_addr.offset
_REGS_AT = kvm_abi.kvm_run.s_regs_regs.offset
# rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags
_REGS = Struct("<18Q")
_RIP = _REGS_AT + kvm_abi.kvm_regs.rip.offset
_RSP = _REGS_AT + kvm_abi.kvm_regs.rsp.offset


class ProgramVm:
    """One VM; ``close`` gives everything back."""

    def __init__(self, kvm: Kvm, program: Program, libos_path: str) -> None:
        """Build it, ready to run; ``kvm`` belongs to it from now on.

        Raises:
            HostError: the image or the library OS cannot be used, or KVM refuses something.
        """
        self.exits = 0
        self._closers: list[Kvm | Vm | Vcpu | Mapping] = []
        try:
            self._build(kvm, program, libos_path)
        except BaseException:
            self.close()
            raise

    def _build(self, kvm: Kvm, program: Program, libos_path: str) -> None:
        self._closers.append(kvm)
        libos, self.header = library_os.open_file(libos_path)
        self._closers.append(libos)
        ram = mapping.anonymous(program.memory)
        self._closers.append(ram)
        regions = [Region(0, ram.view, ram.address)]
        self.ram = ram
        vm = kvm.create_vm()
        self._closers.append(vm)
        vm.set_memory(SLOT_RAM, 0, ram.size, ram.address)
        vm.set_memory(
            SLOT_LIBOS, abi.PV_LIBOS_GPA, libos.size, libos.address, kvm_abi.KVM_MEM_READONLY
        )
        image_size = 0
        if program.image:
            image = initial.map_image(program.image)
            self._closers.append(image)
            image_size = image.size
            size = -(-image_size // tables.PAGE) * tables.PAGE
            vm.set_memory(
                SLOT_IMAGE, abi.PV_IMAGE_GPA, size, image.address, kvm_abi.KVM_MEM_READONLY
            )
            regions.append(Region(abi.PV_IMAGE_GPA, image.view, image.address))
        self.memory = GuestMemory(regions)
        self.vcpu = vm.create_vcpu(0)
        self._closers.append(self.vcpu)
        cpuid = kvm.supported_cpuid()
        self.boot = initial.write(ram.view, program, self.header, image_size, engine_of(cpuid))
        self.boot.tsc_khz = self.vcpu.tsc_khz()
        self._set_registers(cpuid)
        self.cpu = abi.pv_cpu(ram.view, tables.cpu_gpa(0))
        self.page = self.vcpu.page

    def _set_registers(self, cpuid: list[kvm_abi.kvm_cpuid_entry2]) -> None:
        vcpu = self.vcpu
        vcpu.set_cpuid(cpuid)
        sregs = vcpu.sregs()
        sregs.cs = x86.segment(0xA0FB, 0, 0xFFFFF, abi.PV_USER_CODE)
        data = x86.segment(0xC0F3, 0, 0xFFFFF, abi.PV_USER_DATA)
        sregs.ds = sregs.es = sregs.fs = sregs.ss = data
        sregs.gs = data
        gs_base = tables.linear(tables.cpu_gpa(0))
        sregs.gs.base = gs_base
        tss = tables.linear(tables.cpu_gpa(0) + abi.PV_CPU_TSS)
        sregs.tr = x86.segment(0x008B, tss, tables.TSS_LIMIT, abi.PV_TSS)
        sregs.gdt.base = tables.linear(abi.PV_GDT_GPA)
        sregs.gdt.limit = tables.gdt_limit(1)
        sregs.idt.base = tables.linear(abi.PV_IDT_GPA)
        sregs.idt.limit = abi.PV_VECTORS * 16 - 1
        cr3 = self.boot.page_table_gpa
        sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer = CR0, cr3, CR4, EFER
        vcpu.set_sregs(sregs)
        self._set_xcr0(xcr0_for(cpuid))
        vcpu.set_msrs(
            {
                MSR_STAR: STAR,
                MSR_LSTAR: self.header.syscall_entry,
                MSR_SFMASK: SFMASK,
                MSR_GS_BASE: gs_base,
            }
        )
        state = kvm_abi.kvm_regs()
        state.rip = self.header.entry
        state.rsp = tables.linear(tables.cpu_gpa(1))
        state.rdi = tables.linear(abi.PV_BOOT_GPA)
        state.rflags = x86.RFLAGS_RESERVED
        vcpu.set_regs(state)
        vcpu.run_struct.kvm_valid_regs = kvm_abi.KVM_SYNC_X86_REGS

    def _set_xcr0(self, xcr0: int) -> None:
        xcrs = kvm_abi.kvm_xcrs()
        xcrs.nr_xcrs = 1
        xcrs.xcrs[0].value = xcr0
        self.vcpu.set_xcrs(xcrs)
        self.boot.xcr0 = xcr0
        self.boot.xsave_size = XSAVE_SIZE

    # ------------------------------------------------------------------------------- running

    def run(self, calls: Calls) -> Ended:
        """Run the guest to its end, serving its calls.  hot: per exit.

        Raises:
            HostError: the guest did what no library OS does; the message says what.
        """
        vcpu = self.vcpu
        run, page, reason_of = vcpu.run, vcpu.page, vcpu.exit_reason
        unpack, mmio = _REGS.unpack_from, _MMIO.unpack_from
        dirty = page[296:304].cast("Q")
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
                    self._interrupted(waiting)
                    continue
                except OSError as error:
                    raise HostError.wrap(f"KVM_RUN failed at {self._where()}", error) from None
                if reason_of[0] != kvm_abi.KVM_EXIT_MMIO:
                    raise HostError(self._unexpected(reason_of[0]))
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

    def _interrupted(self, waiting: Waiting) -> None:
        """A signal came: tell the guest what is pending, at once if it is in its program."""
        self.exits += 1
        pending, signals = waiting.take_pending()
        if not pending:
            return
        cpu, page = self.cpu, self.vcpu.page
        cpu.signals |= signals
        cpu.pending |= pending
        regs = kvm_abi.kvm_regs(page, _REGS_AT)
        rip = regs.rip
        if self.header.code_start <= rip < self.header.code_end:
            return
        cpu.user_rip, cpu.user_rsp, cpu.user_rflags = rip, regs.rsp, regs.rflags
        regs.rip = self.header.upcall_entry
        regs.rsp = cpu.kernel_stack
        self.vcpu.run_struct.kvm_dirty_regs = kvm_abi.KVM_SYNC_X86_REGS

    def discard(self, gpa: int, size: int) -> None:
        """Give a page-aligned part of RAM back to the host; it reads as zeros afterwards."""
        self.ram.advise(MADV_DONTNEED, gpa, size)

    def _where(self) -> str:
        try:
            return f"rip {self.vcpu.regs().rip:#x}"
        except HostError:
            return "an unknown place"

    def _unexpected(self, reason: int) -> str:
        if reason == kvm_abi.KVM_EXIT_SHUTDOWN:
            return f"The guest's CPU has shut down (triple fault) at {self._where()}"
        if reason == kvm_abi.KVM_EXIT_INTERNAL_ERROR:
            suberror = self.vcpu.run_struct.internal_suberror
            return f"KVM internal error {suberror} at {self._where()}"
        return f"Unexpected KVM exit {reason} at {self._where()}"

    def close(self) -> None:
        """Give back the vCPU, the VM and the memory."""
        if hasattr(self, "cpu"):
            self.cpu.view.release()
            self.boot.view.release()
        if hasattr(self, "memory"):
            self.memory.release()
        while self._closers:
            self._closers.pop().close()


def engine_of(cpuid: list[kvm_abi.kvm_cpuid_entry2]) -> int:
    """PV_ENGINE as the table of supported CPUID hints at it: a software-only KVM offers no XSAVE.
    Nothing depends on it; what is certain takes a VM to find out."""
    has_xsave = any(entry.function == 1 and entry.ecx >> 26 & 1 for entry in cpuid)
    return abi.PV_ENGINE_HARDWARE if has_xsave else abi.PV_ENGINE_SOFTWARE


def xcr0_for(cpuid: list[kvm_abi.kvm_cpuid_entry2]) -> int:
    """Which register sets the program may use: what KVM offers, or (software-only KVM, whose table
    says nothing but whose ring 3 is the host's) what the host has, of x87, SSE, AVX, AVX-512."""
    known = 0xE7
    for entry in cpuid:
        if entry.function == 0xD and entry.index == 0 and entry.eax:
            return entry.eax & known | 1
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("flags"):
                flags = line.split()
                return 0xE7 if "avx512f" in flags else 7 if "avx" in flags else 3
    return 3
