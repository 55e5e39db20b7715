"""Registers and descriptor tables at the two entries of a kernel."""

from struct import unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.abi import kvm as abi
from pyrovm.arch.x86 import layout, regs
from pyrovm.memory.guest_memory import GuestMemory, Region


def fields(seg):
    return (
        seg.base,
        seg.limit,
        seg.selector,
        seg.type,
        seg.s,
        seg.dpl,
        seg.present,
        seg.l,
        seg.db,
        seg.g,
    )


def test_the_64_bit_entry_is_in_long_mode_with_paging():
    sregs = regs.boot_sregs(abi.kvm_sregs(), pvh=False)
    assert sregs.cr0 == 1 << 31 | 1
    assert sregs.cr3 == 0x9000
    assert sregs.cr4 == 1 << 5
    assert sregs.efer == 0x500
    assert fields(sregs.cs) == (0, 0xFFFFFFFF, 8, 0xB, 1, 0, 1, 1, 0, 1)
    for seg in (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss):
        assert fields(seg) == (0, 0xFFFFFFFF, 0x10, 0x3, 1, 0, 1, 0, 1, 1)
    assert fields(sregs.tr) == (0, 0xFFFFFFFF, 0x18, 0xB, 0, 0, 1, 0, 0, 1)


def test_the_pvh_entry_is_in_flat_32_bit_protected_mode():
    before = abi.kvm_sregs()
    before.cr0, before.cr4 = 0x60000010, 0xFFFF
    sregs = regs.boot_sregs(before, pvh=True)
    assert sregs.cr0 == 0x11
    assert (sregs.cr4, sregs.efer) == (0, 0)
    assert fields(sregs.cs) == (0, 0xFFFFFFFF, 8, 0xB, 1, 0, 1, 0, 1, 1)
    assert fields(sregs.tr) == (0, 0x67, 0x18, 0xB, 0, 0, 1, 0, 0, 0)


@pytest.mark.parametrize("pvh", [False, True])
def test_descriptor_tables_lie_where_the_layout_says(pvh):
    sregs = regs.boot_sregs(abi.kvm_sregs(), pvh=pvh)
    assert (sregs.gdt.base, sregs.gdt.limit) == (0x500, 0x1F)
    assert (sregs.idt.base, sregs.idt.limit) == (0x520, 7)


def test_general_registers_point_to_the_boot_information():
    linux, pvh = regs.boot_regs(0x1000200, pvh=False), regs.boot_regs(0x1000600, pvh=True)
    assert (linux.rip, linux.rsi, linux.rsp, linux.rbp, linux.rflags) == (
        0x1000200,
        0x7000,
        0x8FF0,
        0x8FF0,
        2,
    )
    assert (pvh.rip, pvh.rbx, pvh.rsp, pvh.rsi, pvh.rflags) == (0x1000600, 0x6000, 0, 0, 2)


def test_floating_point_is_as_after_fninit():
    fpu = regs.boot_fpu()
    assert (fpu.fcw, fpu.mxcsr) == (0x37F, 0x1F80)


@given(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFF), st.integers(0, 0xFFFF))
def test_a_descriptor_and_its_segment_say_the_same(base, limit, flags):
    flags &= 0xF0FF
    entry, seg = regs.gdt_entry(flags, base, limit), regs.segment(flags, base, limit, 8)
    assert (entry >> 16 & 0xFFFFFF) | (entry >> 56) << 24 == seg.base == base
    raw = entry & 0xFFFF | entry >> 32 & 0xF0000
    assert raw == limit
    assert seg.limit == (raw << 12 | 0xFFF if entry >> 55 & 1 else raw)
    assert entry >> 40 & 0xF == seg.type
    assert entry >> 47 & 1 == seg.present == 1 - seg.unusable
    assert (entry >> 53 & 1, entry >> 54 & 1) == (seg.l, seg.db)


def test_the_first_gib_is_mapped_one_to_one():
    memory = GuestMemory([Region(0, memoryview(bytearray(1 << 20)))])
    regs.write_tables(memory, pvh=False)
    assert unpack("<Q", memory.read(layout.PML4, 8)) == (0xA003,)
    assert unpack("<Q", memory.read(layout.PDPT, 8)) == (0xB003,)
    pages = unpack("<512Q", memory.read(layout.PD, 4096))
    assert pages == tuple(0x83 + (2 << 20) * i for i in range(512))


def test_pvh_needs_no_page_tables():
    memory = GuestMemory([Region(0, memoryview(bytearray(1 << 20)))])
    regs.write_tables(memory, pvh=True)
    assert memory.read(layout.PML4, 0x3000) == bytes(0x3000)
    assert unpack("<4Q", memory.read(layout.GDT, 32))[0] == 0
