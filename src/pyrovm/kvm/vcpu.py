"""A KVM vCPU: its registers, and the kvm_run page that every exit is read from."""

from __future__ import annotations

import mmap
import os

from pyrovm.abi import kvm as abi
from pyrovm.abi.layout import entries, with_tail
from pyrovm.errors import HostError
from pyrovm.host.address import address_of_mapping
from pyrovm.host.ioctl import ioctl, ioctl_buffer, ioctl_struct, runner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Vcpu:
    """One vCPU.  ``run`` is the only call that may block, and it may be called from any thread.

    ``cpuid`` is the table that the guest was given, its kvm_cpuid_entry2 one behind the other (what
    KVM would tell of it may have more: a software-only KVM shows the host's own).
    ``page`` is the shared kvm_run mapping; ``exit_reason`` is its word 2, so that
    ``exit_reason[0]`` is one native read.
    """

    def __init__(self, fd: int, index: int, run_size: int) -> None:
        self.fd = fd
        self.index = index
        self._mmap = mmap.mmap(fd, run_size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self.page = memoryview(self._mmap)
        offset = abi.kvm_run.exit_reason.offset
        self.exit_reason = self.page[offset : offset + 4].cast("I")
        self.run_struct = abi.kvm_run(self.page)
        self.run = runner(fd, abi.KVM_RUN)
        self.cpuid = b""

    def close(self) -> None:
        if self.fd >= 0:
            self.run_struct.view.release()
            self.exit_reason.release()
            self.page.release()
            self._mmap.close()
            os.close(self.fd)
            self.fd = -1

    def leave_out_of_forks(self) -> None:
        """Have processes forked from now on do without the kvm_run page: with it they would keep
        KVM's side of this VM alive."""
        self._mmap.madvise(mmap.MADV_DONTFORK)

    def set_immediate_exit(self, value: bool) -> None:
        """Make the next KVM_RUN complete what is pending and return at once with EINTR."""
        self.page[1] = 1 if value else 0

    # --------------------------------------------------------------- registers

    def regs(self) -> abi.kvm_regs:
        """The general registers, RIP and RFLAGS."""
        state = abi.kvm_regs()
        ioctl_struct(self.fd, abi.KVM_GET_REGS, state, what="KVM_GET_REGS")
        return state

    def set_regs(self, state: abi.kvm_regs) -> None:
        """Set the general registers, RIP and RFLAGS."""
        ioctl_struct(self.fd, abi.KVM_SET_REGS, state, what="KVM_SET_REGS")

    def sregs(self) -> abi.kvm_sregs:
        """The segment, control and APIC base registers."""
        state = abi.kvm_sregs()
        ioctl_struct(self.fd, abi.KVM_GET_SREGS, state, what="KVM_GET_SREGS")
        return state

    def set_sregs(self, state: abi.kvm_sregs) -> None:
        """Set the segment, control and APIC base registers."""
        ioctl_struct(self.fd, abi.KVM_SET_SREGS, state, what="KVM_SET_SREGS")

    def fpu(self) -> abi.kvm_fpu:
        """The x87 and SSE registers."""
        state = abi.kvm_fpu()
        ioctl_struct(self.fd, abi.KVM_GET_FPU, state, what="KVM_GET_FPU")
        return state

    def set_fpu(self, state: abi.kvm_fpu) -> None:
        """Set the x87 and SSE registers."""
        ioctl_struct(self.fd, abi.KVM_SET_FPU, state, what="KVM_SET_FPU")

    def xcrs(self) -> abi.kvm_xcrs:
        """The extended control registers."""
        state = abi.kvm_xcrs()
        ioctl_struct(self.fd, abi.KVM_GET_XCRS, state, what="KVM_GET_XCRS")
        return state

    def set_xcrs(self, state: abi.kvm_xcrs) -> None:
        """Set the extended control registers."""
        ioctl_struct(self.fd, abi.KVM_SET_XCRS, state, what="KVM_SET_XCRS")

    def debugregs(self) -> abi.kvm_debugregs:
        """The debug registers."""
        state = abi.kvm_debugregs()
        ioctl_struct(self.fd, abi.KVM_GET_DEBUGREGS, state, what="KVM_GET_DEBUGREGS")
        return state

    def set_debugregs(self, state: abi.kvm_debugregs) -> None:
        """Set the debug registers."""
        ioctl_struct(self.fd, abi.KVM_SET_DEBUGREGS, state, what="KVM_SET_DEBUGREGS")

    def vcpu_events(self) -> abi.kvm_vcpu_events:
        """The pending exceptions, interrupts and NMIs."""
        state = abi.kvm_vcpu_events()
        ioctl_struct(self.fd, abi.KVM_GET_VCPU_EVENTS, state, what="KVM_GET_VCPU_EVENTS")
        return state

    def set_vcpu_events(self, state: abi.kvm_vcpu_events) -> None:
        """Set the pending exceptions, interrupts and NMIs."""
        ioctl_struct(self.fd, abi.KVM_SET_VCPU_EVENTS, state, what="KVM_SET_VCPU_EVENTS")

    def mp_state(self) -> abi.kvm_mp_state:
        """The run state (runnable, halted, waiting for SIPI)."""
        state = abi.kvm_mp_state()
        ioctl_struct(self.fd, abi.KVM_GET_MP_STATE, state, what="KVM_GET_MP_STATE")
        return state

    def set_mp_state(self, state: abi.kvm_mp_state) -> None:
        """Set the run state (runnable, halted, waiting for SIPI)."""
        ioctl_struct(self.fd, abi.KVM_SET_MP_STATE, state, what="KVM_SET_MP_STATE")

    def lapic(self) -> abi.kvm_lapic_state:
        """The local APIC's register page."""
        state = abi.kvm_lapic_state()
        ioctl_struct(self.fd, abi.KVM_GET_LAPIC, state, what="KVM_GET_LAPIC")
        return state

    def set_lapic(self, state: abi.kvm_lapic_state) -> None:
        """Set the local APIC's register page."""
        ioctl_struct(self.fd, abi.KVM_SET_LAPIC, state, what="KVM_SET_LAPIC")

    def xsave(self) -> bytes:
        """The XSAVE area, 4096 bytes or what KVM_CAP_XSAVE2 says is needed."""
        size = max(abi.kvm_xsave.SIZE, self._xsave_size())
        buffer = bytearray(size)
        if size > abi.kvm_xsave.SIZE:
            ioctl_buffer(self.fd, abi.KVM_GET_XSAVE2, buffer, what="KVM_GET_XSAVE2")
        else:
            ioctl_buffer(self.fd, abi.KVM_GET_XSAVE, buffer, what="KVM_GET_XSAVE")
        return bytes(buffer)

    def set_xsave(self, data: bytes) -> None:
        """Set the XSAVE area, as :meth:`xsave` returned it, perhaps on another host.

        Raises:
            HostError: it is larger than this host's, or KVM refused it.
        """
        size = max(abi.kvm_xsave.SIZE, self._xsave_size())
        if len(data) > size:
            raise HostError(f"an XSAVE area of {len(data)} bytes; this CPU has one of {size}")
        # KVM reads as much as its own area has, however little is given.
        buffer = bytearray(data.ljust(size, b"\0"))
        ioctl_buffer(self.fd, abi.KVM_SET_XSAVE, buffer, what="KVM_SET_XSAVE")

    def _xsave_size(self) -> int:
        try:
            return ioctl(self.fd, abi.KVM_CHECK_EXTENSION, abi.KVM_CAP_XSAVE2, what="XSAVE2")
        except HostError:  # vCPU descriptors answer this only on kernels that have XSAVE2
            return 0

    def set_cpuid(self, cpuid: list[abi.kvm_cpuid_entry2]) -> None:
        """Give the guest its CPUID table; before MSRs and before the first run.

        Raises:
            HostError: KVM refused the table.
        """
        self.set_cpuid_buffer(self.cpuid_buffer(cpuid))

    @staticmethod
    def cpuid_buffer(cpuid: list[abi.kvm_cpuid_entry2]) -> bytearray:
        """The table as :meth:`set_cpuid_buffer` takes it, for many vCPUs."""
        header = abi.kvm_cpuid2()
        header.nent = len(cpuid)
        return bytearray(header.view) + b"".join(bytes(entry) for entry in cpuid)

    def set_cpuid_buffer(self, buffer: bytearray) -> None:
        """As :meth:`set_cpuid`, with a table from :meth:`cpuid_buffer`."""
        ioctl_buffer(self.fd, abi.KVM_SET_CPUID2, buffer, what="KVM_SET_CPUID2")
        self.cpuid = bytes(buffer[abi.kvm_cpuid2.SIZE :])

    def msrs(self, indices: Iterable[int]) -> dict[int, int]:
        """The values of the MSRs that KVM knows among ``indices``.

        KVM stops at the first one it refuses; that one is left out and the rest asked again.
        """
        wanted, found = list(indices), dict[int, int]()
        while wanted:
            buffer, slots = self.msr_buffer(dict.fromkeys(wanted, 0))
            done = ioctl_buffer(self.fd, abi.KVM_GET_MSRS, buffer, what="KVM_GET_MSRS")
            found.update((slot.index, slot.data) for slot in slots[:done])
            wanted = wanted[done + 1 :]
        return found

    def set_msrs(self, values: Mapping[int, int]) -> None:
        """Set MSRs, in order.

        Raises:
            HostError: KVM refused one; the message names it.
        """
        done = self.try_set_msrs(values)
        if done < len(values):
            raise HostError(f"KVM_SET_MSRS refused MSR {list(values)[done]:#x}")

    def try_set_msrs(self, values: Mapping[int, int]) -> int:
        """Set MSRs, in order, up to the first that KVM refuses; how many it took."""
        buffer, _ = self.msr_buffer(values)
        return ioctl_buffer(self.fd, abi.KVM_SET_MSRS, buffer, what="KVM_SET_MSRS")

    @staticmethod
    def msr_buffer(values: Mapping[int, int]) -> tuple[bytearray, list[abi.kvm_msr_entry]]:
        """A struct kvm_msrs, and its entries."""
        buffer = with_tail(abi.kvm_msrs, abi.kvm_msr_entry, len(values))
        abi.kvm_msrs(buffer).nmsrs = len(values)
        slots = list(entries(buffer, abi.kvm_msrs, abi.kvm_msr_entry, len(values)))
        for slot, (index, value) in zip(slots, values.items(), strict=True):
            slot.index = index
            slot.data = value
        return buffer, slots

    def tsc_khz(self) -> int:
        """The guest's TSC frequency in kHz.

        Raises:
            HostError: the host's TSC is unstable.
        """
        return ioctl(self.fd, abi.KVM_GET_TSC_KHZ, what="KVM_GET_TSC_KHZ")

    def set_tsc_khz(self, khz: int) -> None:
        """Scale the guest's TSC.

        Raises:
            HostError: this CPU cannot scale it.
        """
        ioctl(self.fd, abi.KVM_SET_TSC_KHZ, khz, what="KVM_SET_TSC_KHZ")

    def tsc_offset(self) -> int:
        """What the guest's TSC has more than the host's, modulo 2**64.

        Raises:
            HostError: this kernel does not tell (before 5.16).
        """
        return self._tsc_offset(abi.KVM_GET_DEVICE_ATTR, 0)

    def set_tsc_offset(self, offset: int) -> None:
        """Have the guest's TSC go on from another vCPU's, whose :meth:`tsc_offset` it is.

        Raises:
            HostError: this kernel does not offer it (before 5.16).
        """
        self._tsc_offset(abi.KVM_SET_DEVICE_ATTR, offset)

    def _tsc_offset(self, request: int, value: int) -> int:
        attribute = abi.kvm_device_attr()
        attribute.group, attribute.attr = abi.KVM_VCPU_TSC_CTRL, abi.KVM_VCPU_TSC_OFFSET
        with mmap.mmap(-1, mmap.PAGESIZE) as place:
            place[:8] = value.to_bytes(8, "little")
            attribute.addr = address_of_mapping(place)
            ioctl_struct(self.fd, request, attribute, what="KVM_VCPU_TSC_OFFSET")
            return int.from_bytes(place[:8], "little")

    def kvmclock_ctrl(self) -> None:
        """Tell the guest that it was paused, so that its watchdogs forgive the gap.

        Raises:
            HostError: the guest has not set up its clock yet.
        """
        ioctl(self.fd, abi.KVM_KVMCLOCK_CTRL, what="KVM_KVMCLOCK_CTRL")
