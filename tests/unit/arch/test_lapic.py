"""The two local interrupt pins, as a BIOS wires them."""

from struct import pack_into, unpack_from

from pyrovm.abi.kvm import kvm_lapic_state
from pyrovm.arch.x86.lapic import LVT0, LVT1, set_local_interrupts


def test_lint0_is_the_pic_and_lint1_the_nmi():
    lapic = kvm_lapic_state()
    set_local_interrupts(lapic, boot_cpu=True)
    assert unpack_from("<I", lapic.view, LVT0) == (0x700,)
    assert unpack_from("<I", lapic.view, LVT1) == (0x400,)


def test_only_the_delivery_mode_changes():
    lapic = kvm_lapic_state()
    for register in (LVT0, LVT1):
        pack_into("<I", lapic.view, register, 0xFFFFFFFF)
    set_local_interrupts(lapic, boot_cpu=False)
    assert unpack_from("<I", lapic.view, LVT0) == (0xFFFFFFFF,)
    assert unpack_from("<I", lapic.view, LVT1) == (0xFFFFFCFF,)
    assert sum(byte != 0 for byte in lapic.view) == 8


def test_the_boot_cpu_alone_lets_the_pics_interrupts_through_from_the_start():
    for boot_cpu, masked in ((True, 0), (False, 1)):
        lapic = kvm_lapic_state()
        for register in (LVT0, LVT1):
            pack_into("<I", lapic.view, register, 1 << 16)
        set_local_interrupts(lapic, boot_cpu=boot_cpu)
        assert unpack_from("<I", lapic.view, LVT0) == (0x700 | masked << 16,)
        assert unpack_from("<I", lapic.view, LVT1) == (0x10400,)
