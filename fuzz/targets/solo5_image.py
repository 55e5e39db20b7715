"""Solo5 images: ELF headers, notes, manifest and segments of an untrusted file."""

from __future__ import annotations

from pyrovm.solo5 import image
from pyrovm.solo5.manifest import MAX_ENTRIES, ManifestError
from tests.fakes.solo5_guest import abi_note, elf, manifest, manifest_note

MEMORY = 0x400000
MAX_READ = 56 * 0xFFFF  # program headers: their number has 16 bits


def one_input(data: bytes) -> None:
    """Either a named error, or segments that lie in the file, in memory, and apart."""

    def read_at(offset: int, size: int) -> bytes:
        assert offset >= 0
        assert 0 <= size <= MAX_READ
        return data[offset : offset + size]

    try:
        found = image.parse(read_at, len(data), MEMORY)
    except (image.ImageError, ManifestError):
        return
    assert image.MIN_ADDRESS <= found.entry < MEMORY
    end = image.MIN_ADDRESS
    for segment in found.segments:
        assert end <= segment.start <= segment.gpa
        assert segment.file_size > 0
        assert segment.gpa + segment.file_size <= segment.end <= MEMORY
        assert segment.file_offset + segment.file_size <= len(data)
        assert not (segment.start | segment.end) & 0xFFF
        end = segment.end
    assert found.end == end
    devices = found.manifest.devices
    assert len(devices) < MAX_ENTRIES
    assert [device.handle for device in devices] == list(range(1, len(devices) + 1))
    assert len(found.manifest.pack()) == 8 + 104 * (1 + len(devices))


NOTES = [abi_note(), manifest_note(manifest((b"disk", 1), (b"net0", 2)))]
SEEDS = [
    elf([(0x100000, b"code", 0x1000, 5)]),
    elf([(0x100000, b"code", 0x1000, 5), (0x101000, b"data", 0x2345, 6)], NOTES),
    elf([(0x100000, b"code", 4, 5), (0x200000, b"", 0x1000, 6)], [b"x" * 40, *NOTES]),
]
WORDS = (b"Solo5\0\0\0", b"ABI1", b"MFT1", b"\0\0\0\x40")
