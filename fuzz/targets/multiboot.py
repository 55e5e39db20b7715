"""Kernels other than Linux: what a file is, and multiboot headers and segments."""

from __future__ import annotations

from pyrovm.boot import elf, loader, multiboot
from pyrovm.boot.identify import identify
from tests.unit.boot import images
from tests.unit.boot.test_multiboot import elf32, header

MAX_READ = elf.MAX_NOTES
PROTOCOLS = (None, loader.LINUX64, loader.PVH, loader.MULTIBOOT)


def one_input(data: bytes) -> None:
    """An answer for any file; and either a named error or segments that lie in the file."""

    def read_at(offset: int, size: int) -> bytes:
        assert 0 <= offset < 1 << 63
        assert 0 <= size <= MAX_READ
        return data[offset : offset + size]

    kind = identify(read_at)
    assert kind.protocol in PROTOCOLS
    assert kind.is_linux == (kind.protocol is None)
    try:
        entry, segments = multiboot.parse(read_at, len(data))
    except multiboot.MultibootError:
        return
    assert 0 <= entry < 1 << 64
    assert 0 < len(segments) <= elf.MAX_SEGMENTS
    end = 0
    for segment in sorted(segments, key=lambda s: s.gpa):
        assert segment.gpa >= end
        assert 0 <= segment.file_size <= segment.mem_size
        assert segment.file_offset + segment.file_size <= len(data)
        end = segment.gpa + segment.mem_size


SEEDS = [
    elf32(0x100000, header(3) + b"code", 0x2000),
    images.elf([(0x100000, header(3) + b"code", 0x2000)], machine=3),
    images.elf([(0x200000, b"code", 4)], notes=images.pvh_note(0x200000)),
    header(1 << 16, 0x100000, 0x100000, 0, 0x101000, 0x100020) + b"c" * 64,
]
WORDS = (header(0), header(3), header(1 << 16), b"\x7fELF\2\1\1", b"\x7fELF\1\1\1")
