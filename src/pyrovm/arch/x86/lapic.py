"""The local APIC's register page, as KVM_GET_LAPIC shows it (Intel SDM vol. 3, chapter 11)."""

from __future__ import annotations

from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.abi.kvm import kvm_lapic_state

LVT0, LVT1 = 0x350, 0x360
DELIVERY_MODE, MASKED = 7 << 8, 1 << 16
NMI, EXTINT = 4 << 8, 7 << 8

_U32 = Struct("<I")


def set_local_interrupts(lapic: kvm_lapic_state, *, boot_cpu: bool) -> None:
    """LINT0 takes the PIC's interrupts, LINT1 is the NMI pin, as a BIOS leaves them.

    Kernels that use the PIC alone never look at the local APIC: on the boot CPU it must let the
    PIC's interrupts through from the start.  KVM's reset does so only by a quirk.
    """
    for register, mode in ((LVT0, EXTINT), (LVT1, NMI)):
        (value,) = _U32.unpack_from(lapic.view, register)
        if boot_cpu and register == LVT0:
            value &= ~MASKED
        _U32.pack_into(lapic.view, register, value & ~DELIVERY_MODE | mode)
