"""RAM goes around the gaps, and the memory map tells the guest exactly where it is."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pyrovm.arch.x86 import layout

sizes = st.integers(1, 1 << 21).map(lambda mib: mib << 20)


@given(sizes)
def test_all_of_the_memory_is_placed_and_none_in_a_gap(size):
    ranges = layout.ram_ranges(size)
    assert sum(length for _, length in ranges) == size
    for gap in (
        (layout.MMIO32_START, layout.MMIO32_END),
        (layout.MMIO64_START, layout.MMIO64_END),
    ):
        assert all(gpa + length <= gap[0] or gpa >= gap[1] for gpa, length in ranges)


def test_up_to_3_gib_there_is_one_region():
    assert layout.ram_ranges(3 << 30) == [(0, 3 << 30)]
    assert layout.ram_ranges((3 << 30) + 4096) == [(0, 3 << 30), (4 << 30, 4096)]


@given(sizes.filter(lambda size: size >= 2 << 20))
def test_the_memory_map_counts_all_ram_but_the_reserved_rest_of_the_first_mib(size):
    table = layout.e820(layout.ram_ranges(size))
    ram = sum(length for _, length, kind in table if kind == layout.E820_RAM)
    assert ram == size - (layout.HIMEM - layout.SYSTEM_MEMORY)
    assert table[1] == (0x9FC00, 0x40400, layout.E820_RESERVED)
    assert table[2] == (0xEEC00000, 0x10000000, layout.E820_RESERVED)
    spans = sorted((gpa, gpa + length) for gpa, length, _ in table)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_without_acpi_the_memory_map_names_ram_only():
    ranges = layout.ram_ranges(4 << 30)
    assert layout.e820(ranges, acpi=False) == [
        (0, 0x9FC00, layout.E820_RAM),
        (0x100000, (3 << 30) - 0x100000, layout.E820_RAM),
        (4 << 30, 1 << 30, layout.E820_RAM),
    ]


def test_nothing_of_ours_lies_where_osv_expects_zeros():
    used = (layout.GDT, layout.IDT, layout.PVH_START_INFO, layout.ZERO_PAGE, layout.BOOT_STACK)
    used += (layout.PML4, layout.PDPT, layout.PD, layout.CMDLINE, layout.SYSTEM_MEMORY)
    assert all(gpa < 0x1000 or gpa >= 0x3000 for gpa in used)
