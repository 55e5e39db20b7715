"""A VM of one program: memory, vCPUs, and the loops that serve them.

There is no interrupt controller and no device: the guest asks by hypercalls, and is interrupted by
its registers (libos/abi.h).  The first vCPU runs in the main thread, so that a signal (a tick of
the timer, Ctrl-C) ends KVM_RUN by itself.
"""

from __future__ import annotations

import os

from pyrovm.abi import kvm as kvm_abi
from pyrovm.abi import libos as abi
from pyrovm.host import mapping
from pyrovm.kvm.vcpu import Vcpu
from pyrovm.memory.guest_memory import GuestMemory, Region
from pyrovm.unikernel import initial, library_os, tables
from pyrovm.unikernel.cpu import ProgramCpu
from pyrovm.unikernel.waiting import Waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.host.mapping import Mapping
    from pyrovm.kvm.system import Kvm
    from pyrovm.kvm.vm import Vm
    from pyrovm.unikernel.calls import Calls, Ended
    from pyrovm.unikernel.program import Program

MADV_DONTNEED = 4
SLOT_RAM, SLOT_IMAGE, SLOT_LIBOS = 0, 1, 2
XSAVE_SIZE = 2688  # enough for x87, SSE, AVX and AVX-512 in any layout


class ProgramVm:
    """One VM; ``cpus`` are its vCPUs.  ``close`` gives everything back."""

    def __init__(
        self, kvm: Kvm, memory: int | Mapping, libos_path: str, vcpu_count: int = 1
    ) -> None:
        """Build all that depends on no program, with ``memory`` bytes; :meth:`load` does the rest.
        ``kvm`` belongs to it from now on.

        With the memory of a VM that was saved there is nothing in KVM yet: :meth:`attach` follows.

        Raises:
            HostError: the library OS cannot be used, or KVM refuses something.
        """
        self.cpus: list[ProgramCpu] = []
        self._closers: list[Kvm | Mapping] = [kvm]
        self._kvm = kvm
        self._vm: Vm | None = None
        self.vcpu_count = vcpu_count
        self.started = {0}  # numbers of the vCPUs that have begun to run
        try:
            self._build(memory, libos_path)
        except BaseException:
            self.close()
            raise

    def _build(self, memory: int | Mapping, libos_path: str) -> None:
        is_new = isinstance(memory, int)
        self.ram = ram = mapping.anonymous(memory) if isinstance(memory, int) else memory
        self._closers.append(ram)
        self._libos, self.header = library_os.open_file(libos_path)
        self._closers.append(self._libos)
        self.memory = GuestMemory([Region(0, ram.view, ram.address)])
        self._image: Mapping | None = None
        self.cpuid = self._kvm.supported_cpuid()
        self._cpuid_buffer = Vcpu.cpuid_buffer(self.cpuid)  # made once: branches load it again
        if not is_new:
            self.boot = abi.pv_boot(ram.view, abi.PV_BOOT_GPA)
            return
        initial.prefer_huge_pages(ram, abi.PV_RAM_HUGE)
        self.attach()
        self.boot, self._tables = initial.write_machine(
            ram.view, self.header, engine_of(self.cpuid), self.vcpu_count
        )
        self.boot.tsc_khz = self.cpus[0].vcpu.tsc_khz()
        self.boot.xcr0 = xcr0_for(self.cpuid)
        self.boot.xsave_size = XSAVE_SIZE
        for cpu in self.cpus:
            cpu.set_registers(self.boot.page_table_gpa, self.boot.xcr0, self.vcpu_count)

    @property
    def free_start(self) -> int:
        """Where RAM is free before a program is loaded, guest-physical, page-aligned."""
        return self._tables.end

    def load(self, program: Program) -> None:
        """Put in what is to run, once; its memory is that of the VM.

        Raises:
            ConfigError: the program's strings do not fit.
            HostError: the image cannot be used, or KVM refuses it.
        """
        if program.image:
            self._set_file(SLOT_IMAGE, abi.PV_IMAGE_GPA, self.map_image(program.image))
        size = self._image.size if self._image else 0
        initial.write_program(self.ram.view, self.boot, self._tables, program, size)

    def map_image(self, path: str) -> Mapping:
        """Have an image; KVM is still to be told.

        Raises:
            HostError: it cannot be used.
        """
        self._image = image = initial.map_image(path)
        self._closers.append(image)
        self.memory.add(Region(abi.PV_IMAGE_GPA, image.view, image.address))
        return image

    def attach(self) -> None:
        """Make KVM's VM and vCPUs over the memory that is there; registers are still to be set.

        Raises:
            HostError: KVM refuses something.
        """
        self._vm = vm = self._kvm.create_vm()
        vm.set_memory(SLOT_RAM, 0, self.ram.size, self.ram.address)
        self._set_file(SLOT_LIBOS, abi.PV_LIBOS_GPA, self._libos)
        if self._image:
            self._set_file(SLOT_IMAGE, abi.PV_IMAGE_GPA, self._image)
        for index in range(self.vcpu_count):
            cpu = ProgramCpu(vm.create_vcpu(index), index, self.ram.view, self.header)
            self.cpus.append(cpu)
            cpu.vcpu.set_cpuid_buffer(self._cpuid_buffer)
            if self.vcpu_count > 1:
                cpu.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
                vm.ioeventfd(cpu.bell, abi.PV_CALL_GPA + abi.PV_BELL + 8 * index, 8)
        self.page = self.cpus[0].vcpu.page  # for Waiting

    def _set_file(self, slot: int, gpa: int, file: Mapping) -> None:
        assert self._vm
        size = -(-file.size // tables.PAGE) * tables.PAGE
        self._vm.set_memory(slot, gpa, size, file.address, kvm_abi.KVM_MEM_READONLY)

    def detach(self) -> None:
        """Give back what KVM has of it; the memory stays, for another :meth:`attach`."""
        while self.cpus:
            self.cpus.pop().close()
        if self._vm:
            self._vm.close()
            self._vm = None

    @property
    def exits(self) -> int:
        """Calls and interruptions so far, of all vCPUs."""
        return sum(cpu.exits for cpu in self.cpus)

    def run(self, calls: Calls) -> Ended | None:
        """Run the guest to its end, serving its calls, or until a pause (None); in the main thread.

        Raises:
            HostError: the guest did what no library OS does; the message says what.
        """
        if self.vcpu_count == 1:
            return self.cpus[0].run(calls)
        from pyrovm.unikernel.smp import Smp

        return Smp(self.cpus, calls, self.started).run()

    def make_waiting(self) -> Waiting:
        """What the guest waits with; from the main thread, whose signals it takes over."""
        if self.vcpu_count == 1:
            return Waiting(self.page)
        from pyrovm.unikernel.shared_waiting import SharedWaiting

        return SharedWaiting(self.cpus)

    def discard(self, gpa: int, size: int) -> None:
        """Give a page-aligned part of RAM back to the host; it reads as zeros afterwards."""
        self.ram.advise(MADV_DONTNEED, gpa, size)

    def close(self) -> None:
        """Give back the vCPUs, the VM and the memory."""
        if hasattr(self, "boot"):
            self.boot.view.release()
        if hasattr(self, "memory"):
            self.memory.release()
        self.detach()
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
