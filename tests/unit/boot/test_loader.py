"""Kernels and initrds in guest memory, and what the guest is told about them."""

from struct import unpack_from

import pytest

from pyrovm.abi.bootparam import boot_params
from pyrovm.arch.x86 import layout
from pyrovm.boot import loader
from pyrovm.errors import ConfigError
from pyrovm.memory.guest_memory import GuestMemory, Region
from tests.unit.boot import images

MIB = 1 << 20
SIZE = 8 * MIB
RANGES = [(0, SIZE)]


@pytest.fixture
def memory():
    return GuestMemory([Region(0, memoryview(bytearray(SIZE)))])


def load(memory, data, **how):
    return loader.load_kernel(memory, images.into(data, chunk=1000), len(data), **how)


def test_an_elf_kernel_starts_at_its_64_bit_entry(memory):
    data = images.elf([(0x100000, b"code" * 900, 0x2000), (0x200000, b"data", 4)], entry=0x100004)
    kernel = load(memory, data)
    assert (kernel.protocol, kernel.entry) == (loader.LINUX64, 0x100004)
    assert kernel.end == 0x200004
    assert kernel.header is None
    assert memory.read(0x100000, 3600) == b"code" * 900
    assert memory.read(0x200000, 4) == b"data"


def test_a_pvh_kernel_starts_there_unless_told_otherwise(memory):
    data = images.elf([(0x100000, b"c" * 64, 64)], notes=images.pvh_note(0x100020))
    assert (load(memory, data).protocol, load(memory, data).entry) == (loader.PVH, 0x100020)
    linux = load(memory, data, protocol=loader.LINUX64)
    assert (linux.protocol, linux.entry) == (loader.LINUX64, 0x100000)


def test_a_bzimage_starts_512_bytes_behind_its_load_address(memory):
    data = images.bzimage(b"k" * 0x600, init_size=0x3000, pref_address=0x200000)
    kernel = load(memory, data)
    assert (kernel.protocol, kernel.entry) == (loader.LINUX64, 0x100200)
    assert kernel.end == 0x203000
    assert memory.read(0x100000, 0x600) == b"k" * 0x600
    assert kernel.header.init_size == 0x3000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "ends before its setup header"),
        (b"#!/bin/sh\n" * 100, "neither an ELF file nor a bzImage"),
        (images.elf([(0xFFFFF, b"c", 1)]), "below 0x100000"),
        (images.elf([(SIZE - 1, b"cc", 2)]), "not in memory"),
        (images.elf([(0x100000, b"c", 1 << 62)]), "not in memory"),
        (images.elf([(0x100000, b"c", 1)], entry=0x200000), "entry 0x200000 is in none"),
        (
            images.elf([(0x100000, b"c", 1)], notes=images.pvh_note(0x100001)),
            "entry 0x100001 is in none",
        ),
        (images.bzimage(init_size=SIZE), "needs memory up to 0x900000"),
        (images.bzimage(pref_address=2**64 - 1), "needs memory up to"),
    ],
)
def test_a_kernel_that_does_not_fit_is_the_callers_error(memory, data, message):
    with pytest.raises(ConfigError, match=message):
        load(memory, data)


def test_a_file_that_ends_while_it_is_read_is_an_error(memory):
    data = images.elf([(0x100000, b"c" * 100, 100)])
    with pytest.raises(loader.LoadError, match="50 bytes early"):
        loader.load_kernel(memory, images.into(data[:-50]), len(data))


def test_an_initrd_ends_with_the_memory_on_a_page(memory):
    initrd = loader.load_initrd(memory, images.into(b"r" * 5000), 5000, kernel_end=0x200000)
    assert initrd.gpa % 4096 == 0
    assert initrd.gpa == SIZE - 8192
    assert memory.read(initrd.gpa, 5000) == b"r" * 5000


@pytest.mark.parametrize(("size", "kernel_end"), [(0, 0), (SIZE, 0), (MIB, SIZE - MIB + 1)])
def test_an_initrd_that_does_not_fit_is_refused(memory, size, kernel_end):
    with pytest.raises(loader.LoadError, match="initrd"):
        loader.load_initrd(memory, images.into(bytes(size)), size, kernel_end)


def test_an_initrd_stays_below_the_gap_in_a_large_guest():
    high = Region(4 << 30, memoryview(bytearray(MIB)))
    memory = GuestMemory([Region(0, memoryview(bytearray(SIZE))), high])
    initrd = loader.load_initrd(memory, images.into(b"r"), 1, kernel_end=0)
    assert initrd.gpa < SIZE


def test_the_zero_page_tells_linux_everything(memory):
    kernel = load(memory, images.elf([(0x100000, b"c", 1)]))
    loader.write_zero_page(memory, kernel, RANGES, b"quiet\0", loader.Initrd(0x700000, 123))
    params = boot_params(memory.read(layout.ZERO_PAGE, 4096))
    header = params.hdr
    assert (header.boot_flag, header.header) == (0xAA55, 0x53726448)
    assert header.type_of_loader == 0xFF
    assert (header.cmd_line_ptr, header.cmdline_size) == (0x20000, 5)
    assert (header.ramdisk_image, header.ramdisk_size) == (0x700000, 123)
    assert header.kernel_alignment == 0x1000000
    assert params.acpi_rsdp_addr == 0xE0000
    assert memory.read(0x20000, 6) == b"quiet\0"
    table = [(e.addr, e.size, e.type) for e in params.e820_table[: params.e820_entries]]
    assert table == layout.e820(RANGES)


def test_a_bzimages_own_header_seeds_the_zero_page(memory):
    kernel = load(memory, images.bzimage(pref_address=0x300000))
    loader.write_zero_page(memory, kernel, RANGES, b"\0", None)
    header = boot_params(memory.read(layout.ZERO_PAGE, 4096)).hdr
    assert header.pref_address == 0x300000
    assert header.version == 0x020F
    assert (header.ramdisk_image, header.ramdisk_size) == (0, 0)


def test_the_pvh_start_info_leads_to_command_line_modules_and_memory_map(memory):
    loader.write_pvh_info(memory, RANGES, b"quiet\0", loader.Initrd(0x700000, 123))
    info = unpack_from("<IIIIQQQQII", memory.read(layout.PVH_START_INFO, 56))
    magic, version, _, modules, module_list, cmdline, rsdp, memmap, entries, _ = info
    assert (magic, version, modules, rsdp) == (0x336EC578, 1, 1, 0)
    assert unpack_from("<QQQQ", memory.read(module_list, 32)) == (0x700000, 123, 0, 0)
    assert memory.read(cmdline, 6) == b"quiet\0"
    found = [unpack_from("<QQI", memory.read(memmap + 24 * i, 24)) for i in range(entries)]
    assert found == layout.e820(RANGES)


def test_without_an_initrd_there_is_no_module(memory):
    loader.write_pvh_info(memory, RANGES, b"\0", None)
    assert unpack_from("<IIIIQ", memory.read(layout.PVH_START_INFO, 24))[3:] == (0, 0)
