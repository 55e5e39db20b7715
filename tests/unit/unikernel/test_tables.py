"""Page tables and descriptors, read as the CPU reads them."""

import pytest

from pyrovm.abi import libos as abi
from pyrovm.unikernel import tables

RAM = 64 << 20


class Header:
    text_end, rodata_end, data_end, bss_end = 0x4000, 0x6000, 0x8000, 0xB000
    data = b"d" * 0x2000


@pytest.fixture
def ram():
    return memoryview(bytearray(RAM))


def build(ram, image_size=5 << 20):
    made = tables.write_page_tables(ram, 0x10000, ram_size=RAM, header=Header())
    made.map_image(image_size)
    return made


def translate(ram, cr3, address):
    """(guest-physical address, flags of all levels together, NX of any), or None."""
    table, flags = cr3, tables.WRITE | tables.USER
    for level in (4, 3, 2, 1):
        at = (table & 0x000F_FFFF_FFFF_F000) + (address >> (3 + 9 * level) & 511) * 8
        entry = int.from_bytes(ram[at : at + 8], "little")
        if not entry & tables.PRESENT:
            return None
        flags &= entry
        if level == 1 or entry & tables.LARGE:
            size = 1 << (3 + 9 * level)
            gpa = entry & 0x000F_FFFF_FFFF_F000 & ~(size - 1)
            return gpa + address % size, flags, bool(entry & tables.NX)
        table = entry
    raise AssertionError


@pytest.mark.parametrize("gpa", [0, 0x5123, RAM - 1])
def test_ram_is_mapped_linearly_and_cannot_be_executed(ram, gpa):
    made = build(ram)
    assert translate(ram, made.cr3, abi.PV_PHYSMAP + gpa) == (gpa, tables.WRITE | tables.USER, True)


def test_nothing_is_mapped_behind_ram(ram):
    made = build(ram)
    assert translate(ram, made.cr3, abi.PV_PHYSMAP + RAM) is None


def test_the_image_is_read_only(ram):
    made = build(ram)
    gpa = abi.PV_IMAGE_GPA + (5 << 20) - 1
    assert translate(ram, made.cr3, abi.PV_PHYSMAP + gpa) == (gpa, tables.USER, True)


def test_code_can_be_executed_and_not_written_and_data_the_other_way(ram):
    made = build(ram)
    va = abi.PV_LIBOS_VA
    assert translate(ram, made.cr3, va + 0x3FFF) == (abi.PV_LIBOS_GPA + 0x3FFF, tables.USER, False)
    assert translate(ram, made.cr3, va + 0x4000) == (abi.PV_LIBOS_GPA + 0x4000, tables.USER, True)
    gpa, flags, no_execute = translate(ram, made.cr3, va + 0x6000)
    assert flags == tables.WRITE | tables.USER
    assert no_execute
    assert bytes(ram[gpa : gpa + 0x2000]) == Header.data
    assert translate(ram, made.cr3, va + 0xA000)[0] == gpa + 0x4000
    assert translate(ram, made.cr3, va + 0xB000) is None


def test_the_null_page_and_the_programs_addresses_are_not_mapped(ram):
    made = build(ram)
    for address in (0, 0x400000, 0x555555554000, 0x7FFFFFFFE000):
        assert translate(ram, made.cr3, address) is None


def test_tables_and_data_end_where_they_say(ram):
    made = build(ram)
    assert not any(ram[made.end : made.end + 0x10000])
    assert made.end % tables.PAGE == 0


def test_ram_above_a_gigabyte_is_mapped_too():
    ram = memoryview(bytearray(1 << 20))
    made = tables.write_page_tables(ram, 0x10000, ram_size=3 << 30, header=Header())
    gpa = (3 << 30) - 1
    assert translate(ram, made.cr3, abi.PV_PHYSMAP + gpa)[0] == gpa


def test_gates_lead_to_their_stubs_on_the_exception_stack(ram):
    vectors = abi.PV_LIBOS_VA + 0x1230
    tables.write_descriptors(ram, vcpu_count=1, vectors=vectors)
    for number in (0, 3, 14, 31):
        at = abi.PV_IDT_GPA + number * 16
        low, high = (int.from_bytes(ram[at + n : at + n + 8], "little") for n in (0, 8))
        handler = low & 0xFFFF | low >> 32 & 0xFFFF0000 | high << 32
        assert handler == vectors + number * abi.PV_VECTOR_SIZE
        assert low >> 16 & 0xFFFF == abi.PV_KERNEL_CODE
        assert low >> 32 & 7 == 1  # IST 1
        assert low >> 45 & 3 == (3 if number == 3 else 0)


def test_every_vcpu_has_its_own_area(ram):
    tables.write_descriptors(ram, vcpu_count=3, vectors=0)
    areas = [abi.pv_cpu(ram, tables.cpu_gpa(n)) for n in range(3)]
    assert [area.number for area in areas] == [0, 1, 2]
    assert [area.self for area in areas] == [abi.PV_PHYSMAP + tables.cpu_gpa(n) for n in range(3)]
    assert len({area.fault_stack for area in areas}) == 3
