"""Multiboot 1: headers found where they may be, kernels of every form, and what they are told."""

from struct import pack, unpack_from

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.arch.x86 import layout
from pyrovm.boot import loader, multiboot
from pyrovm.errors import ConfigError
from pyrovm.memory.guest_memory import GuestMemory, Region
from tests.unit.boot import images

MIB = 1 << 20


def header(flags=0, *addresses, magic=0x1BADB002):
    return pack("<III", magic, flags, -(magic + flags) & 0xFFFFFFFF) + pack(
        f"<{len(addresses)}I", *addresses
    )


def elf32(paddr, data, mem_size, *, entry=0x100000, machine=3, count=1):
    ident = b"\x7fELF\x01\x01\x01" + bytes(9)
    ehdr = ident + pack("<HHIIIIIHHHHHH", 2, machine, 1, entry, 52, 0, 0, 52, 32, count, 0, 0, 0)
    return ehdr + pack("<8I", 1, 84, paddr, paddr, len(data), mem_size, 7, 0x1000) + data


@pytest.fixture
def memory():
    return GuestMemory([Region(0, memoryview(bytearray(8 * MIB)))])


def load(memory, data):
    return loader.load_kernel(memory, images.into(data), len(data), protocol=loader.MULTIBOOT)


@pytest.mark.parametrize(
    "data",
    [
        elf32(0x100000, header(3) + b"code", 0x2000),
        images.elf([(0x100000, header(3) + b"code", 0x2000)]),  # what Unikraft's build makes
        images.elf([(0x100000, header(3) + b"code", 0x2000)], machine=3),
    ],
)
def test_an_elf_kernel_of_either_class_is_loaded_by_physical_address(memory, data):
    kernel = load(memory, data)
    assert (kernel.protocol, kernel.entry, kernel.end) == (loader.MULTIBOOT, 0x100000, 0x102000)
    assert memory.read(0x10000C, 4) == b"code"


def test_a_flat_kernel_is_loaded_where_its_header_says(memory):
    data = b"skip" * 4 + header(1 << 16, 0x100010, 0x100000, 0, 0x101000, 0x100030) + b"c" * 64
    kernel = load(memory, data)
    assert (kernel.entry, kernel.end) == (0x100030, 0x101000)
    assert memory.read(0x100000, 16) == b"skip" * 4


def test_a_flat_kernel_ends_where_its_header_says(memory):
    data = header(1 << 16, 0x100004, 0x100004, 0x100030, 0, 0x100010) + b"c" * 64
    kernel = load(memory, data)
    assert kernel.end == 0x100030
    assert memory.read(0x100030, 1) == b"\0", "what follows the load's end stays in the file"


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (bytes(8192 - 12) + header(), True),
        (bytes(8192 - 8) + header(), False),
        (bytes(2) + header(), False),  # not on a word
        (header(magic=0x1BADB003), False),
        (pack("<III", 0x1BADB002, 0, 0), False),  # a wrong sum
        (pack("<III", 0x1BADB002, 0, 0) + header(), True),
        (b"", False),
        (header()[:-1], False),
        (header(1 << 16), False),  # the addresses are missing
    ],
)
def test_the_header_is_a_word_aligned_sum_within_8_kib(data, found):
    assert (multiboot.find_header(data) is not None) == found


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"x" * 100, "no multiboot header in the first 8192 bytes"),
        (header(1 << 4) + bytes(100), r"requires unknown features \(flags 0x10\)"),
        (header(0) + bytes(100), "without addresses must be an ELF file"),
        (elf32(0x100000, header(), 0x1000, machine=40), "machine 40, x86 expected"),
        (elf32(0x100000, header(), 0x1000, count=0), "0 program headers of 32 bytes"),
        (elf32(0x100000, header(), 0x1000, count=9), "truncated ELF program headers"),
        (elf32(0x100000, header(), 4), "does not fit its memory or the file"),
        (elf32(0x100000, header(), 0x1000, entry=5), "entry 0x5 is in none"),
        (elf32(0x1000, header(), 0x1000, entry=0x1000), "segment at 0x1000 is below 0x100000"),
        (elf32(0xFFFFF000, header(), 0x1000), "not in memory"),
        (images.elf([(0x100000, header(), 99), (0x100010, b"", 9)]), "segments overlap"),
        (header(1 << 16, 0x100000, 0x200000, 0, 0, 0) + bytes(100), "addresses"),
        (header(1 << 16, 0x200000, 0x100000, 0, 0, 0) + bytes(100), "addresses"),
        (header(1 << 16, 0x100000, 0x100000, 0x110000, 0, 0) + bytes(100), "addresses"),
    ],
)
def test_a_kernel_that_cannot_be_loaded_says_why(memory, data, message):
    with pytest.raises(ConfigError, match=message):
        load(memory, data)


def test_the_information_leads_to_command_line_module_map_and_name(memory):
    table = layout.e820([(0, 8 * MIB)])
    multiboot.write_info(memory, table, b"name words\0", loader.Initrd(0x700000, 123))
    info = memory.read(layout.MULTIBOOT_INFO, 120)
    flags, lower, upper, _, cmdline, count, mods = unpack_from("<7I", info)
    mmap_size, mmap = unpack_from("<II", info, 44)
    (name,) = unpack_from("<I", info, 64)
    assert flags == 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9
    assert (lower, upper) == (639, 7 * 1024)
    assert memory.read(cmdline, 11) == b"name words\0"
    start, end, text, _ = unpack_from("<4I", memory.read(mods, 16))
    assert (count, start, end, memory.read(text, 1)) == (1, 0x700000, 0x70007B, b"\0")
    assert memory.read(name, 7) == b"pyrovm\0"
    found = [unpack_from("<IQQI", memory.read(mmap + at, 24)) for at in range(0, mmap_size, 24)]
    assert found == [(20, *entry) for entry in table]


def test_without_an_initrd_the_information_names_no_module(memory):
    multiboot.write_info(memory, layout.e820([(0, 8 * MIB)]), b"\0", None)
    info = unpack_from("<7I", memory.read(layout.MULTIBOOT_INFO, 28))
    assert (info[0] & 1 << 3, info[5], info[6]) == (0, 0, 0)


@given(data=st.data())
def test_a_damaged_kernel_is_an_error_or_loaded_within_memory(data):
    memory = GuestMemory([Region(0, memoryview(bytearray(2 * MIB)))])
    raw = bytearray(elf32(0x100000, header(3) + b"code" * 9, 0x2000))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        kernel = load(memory, bytes(raw))
    except ConfigError:
        return
    assert 0x100000 <= kernel.entry < kernel.end <= 2 * MIB
