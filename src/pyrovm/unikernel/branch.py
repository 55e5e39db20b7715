"""Branching a program's VM: at rest it is memory and registers, and goes on in any process.

A VM that has paused is brought to rest: what its vCPUs have is read, and KVM's side is given back.
fork(2) then copies all that is left, guest memory by copy-on-write; in the child, whose KVM
descriptors would answer EIO anyway, a fresh VM is made over its copy and goes on from there, as it
does over memory that was read from a file.
"""

from __future__ import annotations

import os
import time

from pyrovm.abi import kvm as kvm_abi
from pyrovm.abi import libos as abi
from pyrovm.errors import Unsupported
from pyrovm.host.ioctl import ioctl_buffer
from pyrovm.unikernel import initial
from pyrovm.unikernel.cpu import MSR_LSTAR, MSR_SFMASK, MSR_STAR
from pyrovm.unikernel.vm import ProgramVm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrovm.kvm.vcpu import Vcpu
    from pyrovm.unikernel.unicorn_vm import UnicornVm
    from pyrovm.unikernel.waiting import Waiting

MSR_KERNEL_GS_BASE = 0xC0000102
MSRS = (MSR_STAR, MSR_LSTAR, MSR_SFMASK, MSR_KERNEL_GS_BASE)  # FS and GS are in the sregs

# In the order in which they are written: XSAVE may only have what the XCRs allow.
REGISTERS = {
    "sregs": kvm_abi.KVM_SET_SREGS,
    "xcrs": kvm_abi.KVM_SET_XCRS,
    "xsave": kvm_abi.KVM_SET_XSAVE,
    "msrs": kvm_abi.KVM_SET_MSRS,
    "debugregs": kvm_abi.KVM_SET_DEBUGREGS,
    "regs": kvm_abi.KVM_SET_REGS,
    "vcpu_events": kvm_abi.KVM_SET_VCPU_EVENTS,
}

MADV_COLLAPSE = 25  # since Linux 6.1
HUGE_PAGE = 2 << 20
WORTH_HUGE = HUGE_PAGE // 8  # bytes in use, of one
# A clock that stood still may be this much ahead when it goes on, so that it never goes back: the
# TSC and the host's clock, which measured the rest, do not count alike (NTP slews by 0.05 %).
CLOCK_SLACK_NS, CLOCK_SLACK_PART = 1_000_000, 1000


class CpuState:
    """What one vCPU has in its registers, as the ioctls that write them.

    A child that is forked pays for each page of Python's that it touches: it has no more to do than
    to make these calls.
    """

    def __init__(self, registers: dict[str, bytes], tsc_offset: int = -1) -> None:
        """``registers`` as :meth:`read` has them; without ``tsc_offset`` the TSC starts anew."""
        self.registers = registers
        self._tsc_offset = tsc_offset
        self._writes = [
            (name, request, bytearray(registers[name])) for name, request in REGISTERS.items()
        ]

    @classmethod
    def read(cls, vcpu: Vcpu, *, with_tsc: bool) -> CpuState:
        """Those of a vCPU that stands still.

        Raises:
            HostError: KVM does not tell.
        """
        msrs, _ = vcpu.msr_buffer(vcpu.msrs(MSRS))
        found = {
            "sregs": vcpu.sregs().view,
            "xcrs": vcpu.xcrs().view,
            "xsave": vcpu.xsave(),
            "msrs": msrs,
            "debugregs": vcpu.debugregs().view,
            "regs": vcpu.regs().view,
            "vcpu_events": vcpu.vcpu_events().view,
        }
        registers = {name: bytes(data) for name, data in found.items()}
        return cls(registers, vcpu.tsc_offset() if with_tsc else -1)

    def load(self, vcpu: Vcpu) -> None:
        """Write them into a fresh vCPU.

        Raises:
            HostError: KVM refuses a part.
        """
        for name, request, data in self._writes:
            ioctl_buffer(vcpu.fd, request, data, what=f"The registers {name} of a vCPU")
        if self._tsc_offset >= 0:
            vcpu.set_tsc_offset(self._tsc_offset)


class Rest:
    """A VM that has paused and may go on in other processes.

    Here or in a child, :meth:`wake` makes it run again; :meth:`detach` is what saves the forks of a
    VM that does not run here any more from copying and taking apart what KVM has of it.
    """

    def __init__(self, vm: ProgramVm | UnicornVm, waiting: Waiting) -> None:
        """Read what its vCPUs have.

        Raises:
            Unsupported: it has no KVM.
            HostError: KVM does not tell.
        """
        if not isinstance(vm, ProgramVm):
            raise Unsupported("A VM on Unicorn cannot be branched: KVM is needed")
        self.vm = vm
        self._waiting = waiting
        self.since_ns = time.monotonic_ns()
        # On a software-only KVM it is the host's TSC that guests see.
        with_tsc = vm.boot.engine == abi.PV_ENGINE_HARDWARE
        self.cpus = [CpuState.read(cpu.vcpu, with_tsc=with_tsc) for cpu in vm.cpus]

    @property
    def ticking(self) -> int:
        """Which vCPUs have asked for ticks, a bit for each."""
        return self._waiting.ticking

    def detach(self) -> None:
        """Give KVM's side back; signals are noted and told when it goes on."""
        self._waiting.rest()
        self.vm.detach()

    def wake(self) -> None:
        """Make KVM's side anew, in this process; ``vm.run`` goes on then.

        Raises:
            HostError: KVM refuses something.
        """
        self.vm.attach()
        for state, cpu in zip(self.cpus, self.vm.cpus, strict=True):
            state.load(cpu.vcpu)
        self._waiting.attach(self.vm.page)

    def become_other(self) -> None:
        """Be a VM of its own: another generation, other random numbers."""
        boot = self.vm.boot
        before = boot.generation
        while boot.generation in (0, before):
            boot.generation = int.from_bytes(os.urandom(4), "little")
        boot.view[abi.pv_boot.seed.offset : abi.pv_boot.seed.offset + 64] = os.urandom(64)

    def go_on(self, arguments: Sequence[str]) -> None:
        """Have the time go on, and tell the guest; ``arguments`` are what /dev/pyrovm says then.

        Raises:
            ConfigError: an argument is not one line, or all are too long.
        """
        boot = self.vm.boot
        initial.write_news(self.vm.ram.view, boot, arguments)
        rest = time.monotonic_ns() - self.since_ns
        set_back = rest - rest // CLOCK_SLACK_PART - CLOCK_SLACK_NS
        if not boot.tsc_base:  # read from a file: it begins when the guest looks
            boot.realtime_base_ns = time.time_ns()
            boot.clock_sequence += 2
        elif set_back > 0:
            boot.monotonic_base_ns -= set_back
            boot.clock_sequence += 2
        self._waiting.go_on(abi.PV_PENDING_BRANCH)

    def use_huge_pages(self) -> None:
        """Put what is there in pages of 2 MiB where a good part of one is used: a fork copies one
        entry of a page table then, not 512.  What is added later comes in small pages.

        Where the kernel cannot, or has no such page to give, it stays as it is.
        """
        from pyrovm.snapshot import pages

        ram = self.vm.ram
        used = [0] * -(-ram.size // HUGE_PAGE)
        for start, end in pages.touched(ram.address, ram.size) or ():
            for index in range(start // HUGE_PAGE, -(-end // HUGE_PAGE)):
                at = index * HUGE_PAGE
                used[index] += min(end, at + HUGE_PAGE) - max(start, at)
        for index, size in enumerate(used):
            if size >= WORTH_HUGE:
                try:
                    ram.advise(MADV_COLLAPSE, index * HUGE_PAGE, HUGE_PAGE)
                except OSError:
                    return
