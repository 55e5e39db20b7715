"""ELF kernels: an untrusted file gives checked segments or an error that says what is wrong."""

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.boot import elf
from tests.unit.boot import images


def parse(data):
    return elf.parse(images.reader(data), len(data))


def test_segments_and_entry_are_found():
    image = parse(
        images.elf([(0x100000, b"code", 0x1000), (0x200000, b"", 0x2000)], entry=0x100010)
    )
    assert image.entry == 0x100010
    assert image.pvh_entry is None
    assert [(s.gpa, s.file_size, s.mem_size) for s in image.segments] == [
        (0x100000, 4, 0x1000),
        (0x200000, 0, 0x2000),
    ]


@pytest.mark.parametrize("size", [4, 8])
def test_the_pvh_note_is_found_among_others(size):
    notes = images.note(b"GNU\0", 3, b"build-id!!") + images.pvh_note(0x1000600, size)
    assert parse(images.elf([(0x100000, b"c", 1)], notes=notes)).pvh_entry == 0x1000600


@pytest.mark.parametrize(
    "notes",
    [
        images.note(b"Xen\0", 17, bytes(4)),  # another of Xen's notes
        images.note(b"GNU\0", 18, bytes(4)),  # another owner's note 18
        images.note(b"Xen\0", 18, bytes(3)),  # no address
        images.pvh_note(0x1000)[:-5],  # cut off
        b"\x04",
    ],
)
def test_what_is_not_the_pvh_note_is_none(notes):
    assert parse(images.elf([(0x100000, b"c", 1)], notes=notes)).pvh_entry is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Invalid ELF magic"),
        (b"MZ" + bytes(100), "Invalid ELF magic"),
        (b"\x7fELF", "truncated ELF header"),
        (images.elf([(0x100000, b"c", 1)], bits=1), "not a 64-bit x86"),
        (images.elf([(0x100000, b"c", 1)], machine=183), "machine 183"),
        (images.elf([(0x100000, b"c", 1)], kind=1), "type 1"),
        (images.elf([(0x100000, b"c", 1)], phnum=0), "0 program headers"),
        (images.elf([(0x100000, b"c", 1)], phnum=65), "65 program headers"),
        (images.elf([(0x100000, b"c", 1)], phnum=9), "truncated ELF program headers"),
        (images.elf([(0x100000, b"code", 4)])[:-1], "truncated ELF file"),
        (images.elf([(0x100000, b"code", 2)]), "0x4 file bytes in 0x2"),
        (images.elf([], notes=images.pvh_note(1)), "no loadable segments"),
        (images.elf([(0x100000, b"", 0)]), "no loadable segments"),
        (images.elf([(0x100000, b"c", 0x1001), (0x101000, b"d", 1)]), "overlap at 0x101000"),
    ],
)
def test_what_is_no_loadable_kernel_says_why(data, message):
    with pytest.raises(elf.ElfError, match=message):
        parse(data)


def test_program_headers_of_another_size_are_refused():
    data = bytearray(images.elf([(0x100000, b"c", 1)]))
    data[54:56] = pack("<H", 32)
    with pytest.raises(elf.ElfError, match="program headers of 32 bytes"):
        parse(bytes(data))


@given(st.data())
def test_a_damaged_file_is_refused_or_keeps_the_promises(data):
    raw = bytearray(
        images.elf([(0x100000, b"code", 0x1000), (0x200000, b"d", 1)], notes=images.pvh_note(7))
    )
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        image = parse(raw)
    except elf.ElfError:
        return
    ends = 0
    for segment in sorted(image.segments, key=lambda s: s.gpa):
        assert segment.gpa >= ends
        assert segment.file_size <= segment.mem_size
        assert segment.file_offset + segment.file_size <= len(raw)
        ends = segment.gpa + segment.mem_size


@given(st.binary(max_size=300))
def test_any_notes_end(notes):
    entry = elf.find_pvh_entry(notes)
    assert entry is None or 0 <= entry < 2**64
