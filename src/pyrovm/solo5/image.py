"""Solo5 images: a static ELF program that says by two notes what it is and what it needs.

The file is untrusted.  Rules as in the ABI that Solo5's own tender enforces: what it refuses is
refused here, since whoever builds an image tests it there.
"""

from __future__ import annotations

from struct import Struct

from pyrovm.boot.elf import EM_X86_64, ET_EXEC, MAGIC, PT_LOAD, PT_NOTE
from pyrovm.errors import ConfigError
from pyrovm.solo5 import manifest as mft

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.boot.elf import ReadAt

MIN_ADDRESS = 0x100000  # below lie the host's tables and the boot information
PAGE_SIZE = 0x1000
PF_X, PF_W = 1, 2

NOTE_NAME = b"Solo5\0"
NOTE_ABI, NOTE_MANIFEST = 0x31494241, 0x3154464D  # "ABI1", "MFT1"
MANIFEST_PADDING = 4  # the manifest is aligned to 8 bytes behind a note header of 20
TARGETS = {1: "hvt", 2: "spt", 3: "virtio", 4: "muen", 5: "genode", 6: "xen"}
TARGET_HVT, ABI_VERSION = 1, 2

_EHDR = Struct("<4sBBBB8xHHIQQQIHHHHHH")
_PHDR = Struct("<IIQQQQQQ")
_NOTE = Struct("<III8s")
_ABI = Struct("<II8x")
EV_CURRENT = 1


class ImageError(ConfigError):
    """The file is not a Solo5 image that can be run."""


class Segment:
    """A part of the file for guest memory.

    The file's ``file_size`` bytes go to ``gpa``; the pages from ``start`` to ``end`` belong to it.
    """

    __slots__ = ("end", "file_offset", "file_size", "gpa", "is_writable", "start")

    def __init__(
        self, gpa: int, file_offset: int, file_size: int, start: int, end: int, is_writable: bool
    ) -> None:
        self.gpa = gpa
        self.file_offset = file_offset
        self.file_size = file_size
        self.start = start
        self.end = end
        self.is_writable = is_writable


class Image:
    """A parsed image; ``end`` is the first address behind its segments."""

    __slots__ = ("end", "entry", "manifest", "segments")

    def __init__(self, entry: int, segments: list[Segment], manifest: mft.Manifest) -> None:
        self.entry = entry
        self.segments = segments
        self.manifest = manifest
        self.end = max(segment.end for segment in segments)


def parse(read_at: ReadAt, file_size: int, mem_size: int) -> Image:
    """The image in a file of ``file_size`` bytes, for a guest with ``mem_size`` bytes.

    Raises:
        ImageError: it breaks a rule of the format; the message says which and where.
        ManifestError: its manifest does.
    """
    entry, headers = _headers(read_at, file_size)
    if not MIN_ADDRESS <= entry < mem_size:
        raise ImageError(
            f"entry {entry:#x} is not in the guest's memory from {MIN_ADDRESS:#x} to {mem_size:#x}"
        )
    _check_abi(_find_note(read_at, headers, NOTE_ABI, "ABI", _ABI.size))
    data = _find_note(read_at, headers, NOTE_MANIFEST, "manifest", MANIFEST_PADDING + mft.MAX_SIZE)
    if len(data) < MANIFEST_PADDING:
        raise ImageError(
            f"the manifest note does not fall within valid size ({len(data)} < {MANIFEST_PADDING})"
        )
    manifest = mft.parse(data[MANIFEST_PADDING:])
    return Image(entry, _segments(headers, file_size, mem_size), manifest)


Header = tuple[int, int, int, int, int, int, int, int]


def _headers(read_at: ReadAt, file_size: int) -> tuple[int, list[Header]]:
    """The entry and the program headers."""
    raw = read_at(0, _EHDR.size)
    if raw[:4] != MAGIC:
        raise ImageError("not an ELF file")
    if len(raw) < _EHDR.size:
        raise ImageError(f"truncated ELF header: {len(raw)} of {_EHDR.size} bytes")
    (_, bits, order, ident_version, _, kind, machine, version, entry, *rest) = _EHDR.unpack(raw)
    phoff, _, _, ehsize, phentsize, count, _, _, _ = rest
    if bits != 2 or order != 1 or machine != EM_X86_64:
        raise ImageError(f"not a 64-bit x86 ELF file (class {bits}, machine {machine})")
    if ident_version != EV_CURRENT or version != EV_CURRENT:
        raise ImageError(f"ELF version {version}, {EV_CURRENT} expected")
    if kind != ET_EXEC:
        raise ImageError(f"ELF type {kind}, {ET_EXEC} (a static executable) expected")
    if ehsize != _EHDR.size or phentsize != _PHDR.size or not count:
        raise ImageError(
            f"ELF header of {ehsize} bytes with {count} program headers of {phentsize}, "
            f"{_EHDR.size} with 1 or more of {_PHDR.size} expected"
        )
    table = read_at(phoff, count * phentsize) if phoff < file_size else b""
    if len(table) < count * phentsize:
        raise ImageError(f"truncated ELF program headers at offset {phoff:#x}")
    return entry, list(_PHDR.iter_unpack(table))


# --------------------------------------------------------------------------- notes


def _find_note(
    read_at: ReadAt, headers: list[Header], wanted: int, what: str, max_size: int
) -> bytes:
    """The descriptor of Solo5's note of type ``wanted``, which begins its PT_NOTE segment."""
    for index, (p_type, _, offset, _, _, size, _, _) in enumerate(headers):
        if p_type != PT_NOTE:
            continue
        if size < 12:
            raise ImageError(f"phdr[{index}]: note does not fall within valid size ({size} < 12)")
        raw = read_at(offset, _NOTE.size)
        if size < _NOTE.size or len(raw) < _NOTE.size:
            continue
        name_size, desc_size, kind, name = _NOTE.unpack(raw)
        if name_size != len(NOTE_NAME) or not name.startswith(NOTE_NAME) or kind != wanted:
            continue
        if not 1 <= desc_size <= max_size or _NOTE.size + desc_size > size:
            raise ImageError(
                f"phdr[{index}]: the {what} note does not fall within valid size: {desc_size} "
                f"bytes, 1 to {min(max_size, size - _NOTE.size)} allowed"
            )
        data = read_at(offset + _NOTE.size, desc_size)
        if len(data) < desc_size:
            raise ImageError(f"phdr[{index}]: the file ends within the {what} note")
        return data
    raise ImageError(f"no Solo5 {what} note was found: this is not a Solo5 image")


def _check_abi(data: bytes) -> None:
    if len(data) < _ABI.size:
        raise ImageError(f"Solo5 ABI note of {len(data)} bytes, {_ABI.size} expected")
    target, version = _ABI.unpack_from(data)
    if target != TARGET_HVT:
        name = TARGETS.get(target, f"number {target}")
        raise ImageError(f"the image is built for Solo5 target {name}, not for hvt")
    if version != ABI_VERSION:
        raise ImageError(f"Solo5 hvt ABI version {version}, {ABI_VERSION} expected")


# ------------------------------------------------------------------------ segments


def _segments(headers: list[Header], file_size: int, mem_size: int) -> list[Segment]:
    found: list[Segment] = []
    last_gpa = last_end = 0
    for index, (p_type, flags, offset, gpa, _, size, memsz, align) in enumerate(headers):
        # A segment without bytes in the file is skipped: fresh memory is zeroed.
        if p_type != PT_LOAD or size == 0:
            continue

        def refuse(text: str, index: int = index) -> ImageError:
            return ImageError(f"phdr[{index}]: {text}")

        if align == 0 or align & (align - 1):
            raise refuse(f"alignment {align:#x} is not a power of two")
        start, end = gpa & -align, gpa + memsz + align - 1 & -align
        if start < MIN_ADDRESS or end > mem_size:
            raise refuse(
                f"the segment {start:#x} to {end:#x} is outside of the memory that a program may "
                f"use, {MIN_ADDRESS:#x} to {mem_size:#x}"
            )
        if gpa < last_gpa:
            raise refuse(f"address {gpa:#x} is not in ascending order")
        if start < last_end:
            raise refuse(f"the segment at {start:#x} overlaps the one that ends at {last_end:#x}")
        if memsz < size:
            raise refuse(f"{size:#x} bytes of the file in a segment of {memsz:#x}")
        if offset + size > file_size:
            raise refuse(f"the file ends at {file_size:#x}, the segment at {offset + size:#x}")
        if (start | end) & (PAGE_SIZE - 1):
            raise refuse(f"the segment {start:#x} to {end:#x} is not made of pages")
        if flags & PF_W and flags & PF_X:
            raise refuse("requests WRITE and EXEC permissions")
        found.append(Segment(gpa, offset, size, start, end, bool(flags & PF_W)))
        last_gpa, last_end = gpa, end
    if not found:
        raise ImageError("nothing to load in the ELF file")
    return found
