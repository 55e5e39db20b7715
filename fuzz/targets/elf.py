"""ELF kernels: headers, segments and notes of an untrusted file."""

from __future__ import annotations

from struct import pack

from pyrovm.boot import elf

MAX_READS = 2 + elf.MAX_SEGMENTS


def one_input(data: bytes) -> None:
    """Either a named error, or segments that lie in the file and apart in memory."""
    reads = []

    def read_at(offset: int, size: int) -> bytes:
        reads.append(size)
        assert offset >= 0
        assert 0 <= size <= elf.MAX_NOTES
        return data[offset : offset + size]

    try:
        image = elf.parse(read_at, len(data))
    except elf.ElfError:
        return
    finally:
        assert len(reads) <= MAX_READS
    assert 0 < len(image.segments) <= elf.MAX_SEGMENTS
    end = 0
    for segment in sorted(image.segments, key=lambda s: s.gpa):
        assert segment.gpa >= end
        assert segment.mem_size > 0
        assert segment.file_size <= segment.mem_size
        assert segment.file_offset + segment.file_size <= len(data)
        end = segment.gpa + segment.mem_size
    assert image.pvh_entry is None or 0 <= image.pvh_entry < 1 << 64


def kernel(*segments: tuple[int, int, int, int, int], tail: bytes = b"") -> bytes:
    """An ELF file with (type, file offset, gpa, file size, memory size) segments."""
    header = pack(
        "<4sBBBB8xHHIQQQIHHHHHH",
        *(b"\x7fELF", 2, 1, 1, 0, 2, 62, 1, 0x100_0000, 64, 0, 0, 64, 56, len(segments), 0, 0, 0),
    )
    table = b"".join(
        pack("<IIQQQQQQ", kind, 0, offset, gpa, gpa, file_size, mem_size, 0x1000)
        for kind, offset, gpa, file_size, mem_size in segments
    )
    return header + table + tail


NOTE = pack("<III", 4, 4, elf.XEN_ELFNOTE_PHYS32_ENTRY) + b"Xen\0" + pack("<I", 0x100_0040)
OTHER_NOTE = pack("<III", 5, 3, 1) + b"abcd\0\0\0\0" + b"xyz\0"

SEEDS = [
    kernel((1, 0, 0x100_0000, 100, 0x1000)),
    kernel((1, 0, 0x100_0000, 64, 0x1000), (1, 0, 0x200_0000, 64, 64), (6, 0, 0, 0, 0)),
    kernel((1, 0, 0x100_0000, 10, 10), (4, 176, 0, len(NOTE), len(NOTE)), tail=NOTE),
    kernel((1, 0, 0x100_0000, 10, 10), (4, 176, 0, len(NOTE) + 24, 0), tail=OTHER_NOTE + NOTE),
]
