"""What a Solo5 guest finds at its entry, read back as the CPU would."""

from struct import unpack_from

import pytest

from pyrovm.errors import ConfigError
from pyrovm.memory.guest_memory import GuestMemory, Region
from pyrovm.solo5 import boot, image
from tests.fakes.solo5_guest import abi_note, elf, manifest, manifest_note
from tests.unit.boot.images import reader

MIB = 1 << 20


def memory_of(size):
    return GuestMemory([Region(0, memoryview(bytearray(size)))])


def walk(memory, address):
    """(physical address, flags) of a virtual address, or None where it is not mapped."""
    table = boot.PML4
    for shift in (39, 30, 21, 12):
        (entry,) = unpack_from("<Q", memory.read(table + (address >> shift & 511) * 8, 8))
        if not entry & 1:
            return None
        if shift == 12 or entry & 1 << 7:
            mask = (1 << shift) - 1
            return entry & ~mask & ~0xFFF | address & mask, entry & 3
        table = entry & ~0xFFF
    return None


@pytest.mark.parametrize("size", [2 * MIB, 4 * MIB, 1024 * MIB, 1026 * MIB, 4096 * MIB])
def test_memory_is_mapped_as_the_contract_says(size):
    memory = memory_of(2 * MIB)
    boot.write_tables(memory, size)
    read_only, writable = 1, 3
    for address, flags in (
        (0, None),
        (0xFFFF, None),
        (0x10000, read_only),
        (0xFFFFF, read_only),
        (0x100000, writable),
        (size - 1, writable),
        (max(size // 2, 0x100000) + 0x1234, writable),
        (size, None),
    ):
        assert walk(memory, address) == (None if flags is None else (address, flags)), hex(address)


def test_boot_information_leads_to_manifest_and_command_line():
    data = elf(
        [(0x100000, b"code", 0x1800, 5)],
        [abi_note(), manifest_note(manifest((b"disk", 1), (b"net0", 2)))],
    )
    loaded = image.parse(reader(data), len(data), 8 * MIB)
    memory = memory_of(2 * MIB)
    boot.write_boot_info(
        memory, loaded, mem_size=8 * MIB, tsc_hz=3_000_000_000, cmdline=b"a b", ring_gpa=8 * MIB
    )
    size, end, hz, cmdline, manifest_gpa, host, guest, ring = unpack_from(
        "<QQQQQIIQ", memory.read(boot.BOOT_INFO, 56)
    )
    assert (size, end, hz) == (8 * MIB, 0x102000, 3_000_000_000)
    assert (host, guest, ring) == (1, 0, 8 * MIB)
    assert manifest_gpa % 8 == 0
    assert memory.read(manifest_gpa, len(loaded.manifest.pack())) == loaded.manifest.pack()
    assert memory.read(cmdline, 4) == b"a b\0"
    assert cmdline + boot.CMDLINE_SIZE < boot.PROGRAM


def test_the_longest_command_line_fits_beside_the_largest_manifest_and_no_longer_one():
    devices = [(b"d%d" % n, 1) for n in range(63)]
    data = elf([(0x100000, b"c", 1, 5)], [abi_note(), manifest_note(manifest(*devices))])
    loaded = image.parse(reader(data), len(data), 8 * MIB)
    memory = memory_of(2 * MIB)
    options = {"mem_size": 8 * MIB, "tsc_hz": 1, "ring_gpa": None}
    boot.write_boot_info(memory, loaded, cmdline=b"x" * 8191, **options)
    (cmdline,) = unpack_from("<Q", memory.read(boot.BOOT_INFO + 24, 8))
    assert memory.read(cmdline, 8192) == b"x" * 8191 + b"\0"
    assert unpack_from("<IIQ", memory.read(boot.BOOT_INFO + 40, 16)) == (0, 0, 0)
    with pytest.raises(ConfigError, match="command line too long: 8192 bytes, 8191 allowed"):
        boot.write_boot_info(memory, loaded, cmdline=b"x" * 8192, **options)


@pytest.mark.parametrize("mib", [0, 1, 3, 4098])
def test_a_memory_size_that_cannot_be_is_refused(mib):
    with pytest.raises(ConfigError, match=f"--mem={mib}: .* from 2 to 4096 MiB"):
        boot.check_memory(mib * MIB)
