"""A KVM VM: memory slots, interrupt chips, irqfds, ioeventfds, the clock, the dirty log."""

from __future__ import annotations

import os

from pyrovm.abi import kvm as abi
from pyrovm.abi.layout import entries, with_tail
from pyrovm.host.ioctl import ioctl, ioctl_buffer, ioctl_struct
from pyrovm.kvm.vcpu import Vcpu


class Vm:
    """The file descriptor that KVM_CREATE_VM returned; it closes with ``close``."""

    def __init__(self, fd: int, run_size: int) -> None:
        self.fd = fd
        self._run_size = run_size
        self._slots: dict[int, abi.kvm_userspace_memory_region] = {}

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def check_extension(self, capability: int) -> int:
        """As :meth:`Kvm.check_extension`, but of this VM."""
        return ioctl(self.fd, abi.KVM_CHECK_EXTENSION, capability, what="KVM_CHECK_EXTENSION")

    def enable_cap(self, capability: int, *arguments: int) -> None:
        """KVM_ENABLE_CAP for the VM."""
        cap = abi.kvm_enable_cap()
        cap.cap = capability
        for index, value in enumerate(arguments):
            cap.args[index] = value
        ioctl_struct(self.fd, abi.KVM_ENABLE_CAP, cap, what=f"KVM_ENABLE_CAP {capability}")

    # ------------------------------------------------------------------ memory

    def set_memory(self, slot: int, gpa: int, size: int, hva: int, flags: int = 0) -> None:
        """Map ``size`` bytes (0 removes the slot) at guest-physical ``gpa``.

        ``flags``: KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY.

        Raises:
            HostError: the slot overlaps another, or the kernel is out of something.
        """
        region = abi.kvm_userspace_memory_region()
        region.slot = slot
        region.flags = flags
        region.guest_phys_addr = gpa
        region.memory_size = size
        region.userspace_addr = hva
        ioctl_struct(
            self.fd,
            abi.KVM_SET_USER_MEMORY_REGION,
            region,
            what=f"KVM_SET_USER_MEMORY_REGION slot {slot} at {gpa:#x}",
        )
        if size:
            self._slots[slot] = region
        else:
            self._slots.pop(slot, None)

    def set_dirty_log(self, slot: int, enabled: bool) -> None:
        """Start or stop logging the pages that the guest writes in ``slot``."""
        region = self._slots[slot]
        flags = region.flags & ~abi.KVM_MEM_LOG_DIRTY_PAGES
        if enabled:
            flags |= abi.KVM_MEM_LOG_DIRTY_PAGES
        self.set_memory(
            slot, region.guest_phys_addr, region.memory_size, region.userspace_addr, flags
        )

    def dirty_log(self, slot: int) -> memoryview:
        """One bit a page written since the last call (KVM_GET_DIRTY_LOG), as 64-bit words."""
        from pyrovm.host.libc import address_of

        pages = self._slots[slot].memory_size >> 12
        bitmap = bytearray((pages + 63) // 64 * 8)
        log = abi.kvm_dirty_log()
        log.slot = slot
        log.dirty_bitmap = address_of(bitmap)
        ioctl_struct(self.fd, abi.KVM_GET_DIRTY_LOG, log, what=f"KVM_GET_DIRTY_LOG slot {slot}")
        return memoryview(bitmap).cast("Q")

    # -------------------------------------------------------------- interrupts

    def set_tss_addr(self, gpa: int) -> None:
        """Three pages that Intel hosts need for guests in real mode."""
        ioctl(self.fd, abi.KVM_SET_TSS_ADDR, gpa, what="KVM_SET_TSS_ADDR")

    def create_irqchip(self) -> None:
        """PIC, IOAPIC and, for every vCPU created later, a LAPIC, all in the kernel."""
        ioctl(self.fd, abi.KVM_CREATE_IRQCHIP, what="KVM_CREATE_IRQCHIP")

    def create_pit2(self) -> None:
        """The in-kernel i8254, with port 0x61 answered by the kernel too."""
        config = abi.kvm_pit_config()
        config.flags = abi.KVM_PIT_SPEAKER_DUMMY
        ioctl_struct(self.fd, abi.KVM_CREATE_PIT2, config, what="KVM_CREATE_PIT2")

    def irqfd(self, fd: int, gsi: int, *, deassign: bool = False) -> None:
        """Let a write to the eventfd ``fd`` raise an edge on ``gsi``."""
        request = abi.kvm_irqfd()
        request.fd = fd
        request.gsi = gsi
        request.flags = abi.KVM_IRQFD_FLAG_DEASSIGN if deassign else 0
        ioctl_struct(self.fd, abi.KVM_IRQFD, request, what=f"KVM_IRQFD gsi {gsi}")

    def ioeventfd(
        self,
        fd: int,
        address: int,
        size: int,
        *,
        datamatch: int | None = None,
        pio: bool = False,
        deassign: bool = False,
    ) -> None:
        """Let a guest write at ``address`` signal the eventfd instead of exiting.

        ``size`` 0 takes writes of any width; ``datamatch`` restricts to one value.
        """
        request = abi.kvm_ioeventfd()
        request.fd = fd
        request.addr = address
        request.len = size
        flags = abi.KVM_IOEVENTFD_FLAG_PIO if pio else 0
        if datamatch is not None:
            flags |= abi.KVM_IOEVENTFD_FLAG_DATAMATCH
            request.datamatch = datamatch
        if deassign:
            flags |= abi.KVM_IOEVENTFD_FLAG_DEASSIGN
        request.flags = flags
        ioctl_struct(self.fd, abi.KVM_IOEVENTFD, request, what=f"KVM_IOEVENTFD at {address:#x}")

    def irq_line(self, gsi: int, level: int) -> None:
        """Set the level of an interrupt line by hand; irqfds are the usual way."""
        request = abi.kvm_irq_level()
        request.irq = gsi
        request.level = level
        ioctl_struct(self.fd, abi.KVM_IRQ_LINE, request, what=f"KVM_IRQ_LINE gsi {gsi}")

    # ------------------------------------------------------------------- state

    def clock(self) -> abi.kvm_clock_data:
        """kvmclock as KVM_GET_CLOCK has it; ``clock`` is in ns."""
        data = abi.kvm_clock_data()
        ioctl_struct(self.fd, abi.KVM_GET_CLOCK, data, what="KVM_GET_CLOCK")
        return data

    def set_clock(self, data: abi.kvm_clock_data) -> None:
        """Set kvmclock."""
        ioctl_struct(self.fd, abi.KVM_SET_CLOCK, data, what="KVM_SET_CLOCK")

    def pit2(self) -> abi.kvm_pit_state2:
        """The i8254's state."""
        state = abi.kvm_pit_state2()
        ioctl_struct(self.fd, abi.KVM_GET_PIT2, state, what="KVM_GET_PIT2")
        return state

    def set_pit2(self, state: abi.kvm_pit_state2) -> None:
        """Set the i8254's state."""
        ioctl_struct(self.fd, abi.KVM_SET_PIT2, state, what="KVM_SET_PIT2")

    def irqchip(self, chip: int) -> abi.kvm_irqchip:
        """One chip's state: KVM_IRQCHIP_PIC_MASTER, _PIC_SLAVE or _IOAPIC."""
        state = abi.kvm_irqchip()
        state.chip_id = chip
        ioctl_struct(self.fd, abi.KVM_GET_IRQCHIP, state, what="KVM_GET_IRQCHIP")
        return state

    def set_irqchip(self, state: abi.kvm_irqchip) -> None:
        """Set one chip's state."""
        ioctl_struct(self.fd, abi.KVM_SET_IRQCHIP, state, what="KVM_SET_IRQCHIP")

    def set_gsi_routing(self, routes: list[abi.kvm_irq_routing_entry]) -> None:
        """Replace the whole interrupt routing table."""
        buffer = with_tail(abi.kvm_irq_routing, abi.kvm_irq_routing_entry, len(routes))
        abi.kvm_irq_routing(buffer).nr = len(routes)
        slots = entries(buffer, abi.kvm_irq_routing, abi.kvm_irq_routing_entry, len(routes))
        for slot, route in zip(slots, routes, strict=True):
            slot.view[:] = route.view
        ioctl_buffer(self.fd, abi.KVM_SET_GSI_ROUTING, buffer, what="KVM_SET_GSI_ROUTING")

    # ------------------------------------------------------------------- vCPUs

    def create_vcpu(self, index: int) -> Vcpu:
        """vCPU number ``index`` (also its APIC id).

        Raises:
            HostError: the kernel refused.
        """
        fd = ioctl(self.fd, abi.KVM_CREATE_VCPU, index, what=f"KVM_CREATE_VCPU {index}")
        return Vcpu(fd, index, self._run_size)
