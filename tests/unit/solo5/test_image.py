"""Solo5 images: checked segments, or an error that says which rule is broken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.errors import ConfigError
from pyrovm.solo5 import image
from tests.fakes.solo5_guest import ABI_TYPE, abi_note, elf, manifest, manifest_note, note
from tests.unit.boot.images import reader

MEMORY = 0x800000
TEXT = (0x100000, b"code", 0x2000, 5)
NOTES = [abi_note(), manifest_note(manifest())]


def parse(data, mem_size=MEMORY):
    return image.parse(reader(data), len(data), mem_size)


def test_segments_entry_end_and_devices_are_found():
    found = parse(
        elf(
            [TEXT, (0x102010, b"ro", 2, 4), (0x104000, b"rw", 0x1001, 6), (0x200000, b"", 99, 6)],
            [note(1, b"x", name=b"GNU\0"), abi_note(), manifest_note(manifest((b"disk", 1)))],
            start=0x100002,
        )
    )
    assert (found.entry, found.end) == (0x100002, 0x106000)
    assert [(s.gpa, s.file_size, s.start, s.end, s.is_writable) for s in found.segments] == [
        (0x100000, 4, 0x100000, 0x102000, False),
        (0x102010, 2, 0x102000, 0x103000, False),
        (0x104000, 2, 0x104000, 0x106000, True),
    ]
    assert [d.name for d in found.manifest.devices] == ["disk"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an ELF file"),
        (b"\x7fELF", "truncated ELF header: 4 of 64 bytes"),
        (elf([TEXT], bits=1), "not a 64-bit x86 ELF file (class 1"),
        (elf([TEXT], machine=183), "machine 183"),
        (elf([TEXT], kind=3), "ELF type 3, 2 (a static executable) expected"),
        (elf([TEXT], []), "no Solo5 ABI note was found: this is not a Solo5 image"),
        (elf([TEXT], NOTES[:1]), "no Solo5 manifest note was found"),
        (elf([], NOTES), "nothing to load"),
        (elf([TEXT], start=0xFFFFF), "entry 0xfffff is not in the guest's memory"),
        (elf([TEXT], start=MEMORY), "entry 0x800000 is not in the guest's memory"),
        (elf([TEXT], [abi_note(target=2), NOTES[1]]), "built for Solo5 target spt, not for hvt"),
        (elf([TEXT], [abi_note(target=77), NOTES[1]]), "Solo5 target number 77"),
        (elf([TEXT], [abi_note(version=1), NOTES[1]]), "hvt ABI version 1, 2 expected"),
        (elf([TEXT], [b"short"]), "note does not fall within valid size (5 < 12)"),
        (elf([TEXT], [note(ABI_TYPE, b"")]), "valid size: 0 bytes"),
        (elf([TEXT], [note(ABI_TYPE, bytes(16), size=17)]), "valid size: 17 bytes"),
        (elf([TEXT], [note(ABI_TYPE, bytes(8))]), "ABI note of 8 bytes, 16 expected"),
        (elf([TEXT], [NOTES[0], manifest_note(b"")]), "manifest of 0 bytes"),
        (elf([TEXT], [NOTES[0], manifest_note(bytes(7000))]), "valid size: 7004 bytes"),
        (elf([(0xFF000, b"c", 1, 5)]), "phdr[0]: the segment 0xff000 to 0x100000 is outside"),
        (elf([(0x7FF000, b"c", 0x1001, 5)]), "phdr[0]: the segment 0x7ff000 to 0x801000"),
        (elf([((1 << 64) - 1, b"c", 2, 5)]), "is outside of the memory"),
        (elf([(0x200000, b"c", 1, 5), TEXT]), "phdr[1]: address 0x100000 is not in ascending"),
        (elf([TEXT, (0x101800, b"c", 1, 4)]), "phdr[1]: the segment at 0x101000 overlaps"),
        (elf([(0x100000, b"code", 3, 5)]), "phdr[0]: 0x4 bytes of the file in a segment of 0x3"),
        (elf([(0x100000, b"c", 1, 7)]), "phdr[0]: requests WRITE and EXEC permissions"),
        (elf([TEXT], align=0), "alignment 0x0 is not a power of two"),
        (elf([TEXT], align=0x1800), "alignment 0x1800 is not a power of two"),
        (elf([(0x100000, b"c", 5, 5)], align=8), "is not made of pages"),
        (elf([TEXT])[:-1], "ends"),
        (elf([TEXT])[:100], "truncated ELF program headers"),
    ],
)
def test_a_broken_rule_is_named(data, message):
    with pytest.raises(ConfigError) as raised:
        parse(data)
    assert message in str(raised.value)


def test_an_image_may_need_more_memory_than_the_guest_has():
    data = elf([(0x100000, b"c", 0x300000, 6)])
    assert parse(data).end == 0x400000
    with pytest.raises(image.ImageError, match="0x100000 to 0x200000"):
        parse(data, 0x200000)


@given(data=st.data())
def test_a_damaged_image_gives_a_named_error_or_segments_inside_memory(data):
    raw = bytearray(elf([TEXT, (0x104000, b"rw", 0x1001, 6)]))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = parse(bytes(raw))
    except ConfigError:
        return
    end = image.MIN_ADDRESS
    for segment in found.segments:
        assert end <= segment.start <= segment.gpa
        assert segment.gpa + segment.file_size <= segment.end <= MEMORY
        assert segment.file_offset + segment.file_size <= len(raw)
        end = segment.end
