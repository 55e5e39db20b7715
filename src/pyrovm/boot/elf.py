"""ELF kernels: an untrusted file in, checked segments and notes out (System V ABI, chapter 4)."""

from __future__ import annotations

from struct import Struct

from pyrovm.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    # (offset, size) -> bytes, shorter at the end of the file
    ReadAt = Callable[[int, int], bytes]

MAGIC = b"\x7fELF"
EM_386, EM_X86_64 = 3, 62
ET_EXEC, ET_DYN = 2, 3
PT_LOAD, PT_NOTE = 1, 4
XEN_ELFNOTE_PHYS32_ENTRY = 18
MAX_SEGMENTS = 64
MAX_NOTES = 1 << 20  # bytes

_EHDR = Struct("<4sBBBB8xHHIQQQIHHHHHH")
_PHDR = Struct("<IIQQQQQQ")
_NHDR = Struct("<III")


class ElfError(ConfigError):
    """The file is not an ELF kernel that can be loaded."""


class Segment:
    """Bytes of the file for guest-physical memory; the rest of ``mem_size`` is zero."""

    __slots__ = ("file_offset", "file_size", "gpa", "mem_size")

    def __init__(self, gpa: int, mem_size: int, file_offset: int, file_size: int) -> None:
        self.gpa = gpa
        self.mem_size = mem_size
        self.file_offset = file_offset
        self.file_size = file_size


class Elf:
    """A parsed kernel: where to load what and where to start; ``pvh_entry`` may be None."""

    __slots__ = ("entry", "pvh_entry", "segments")

    def __init__(self, entry: int, segments: list[Segment], pvh_entry: int | None) -> None:
        self.entry = entry
        self.segments = segments
        self.pvh_entry = pvh_entry


def parse(read_at: ReadAt, file_size: int) -> Elf:
    """Parse the headers of a 64-bit x86 ELF file of ``file_size`` bytes.

    Raises:
        ElfError: it is malformed; the message says where.
    """
    raw = read_at(0, _EHDR.size)
    if raw[:4] != MAGIC:
        raise ElfError("Invalid ELF magic number")
    if len(raw) < _EHDR.size:
        raise ElfError(f"truncated ELF header: {len(raw)} of {_EHDR.size} bytes")
    (_, bits, order, _, _, kind, machine, _, entry, phoff, _, _, _, phentsize, phnum, _, _, _) = (
        _EHDR.unpack(raw)
    )
    if bits != 2 or order != 1 or machine != EM_X86_64:
        raise ElfError(f"not a 64-bit x86 ELF file (class {bits}, machine {machine})")
    if kind not in (ET_EXEC, ET_DYN):
        raise ElfError(f"not an executable ELF file (type {kind})")
    if phentsize != _PHDR.size:
        raise ElfError(f"program headers of {phentsize} bytes, {_PHDR.size} expected")
    if not 0 < phnum <= MAX_SEGMENTS:
        raise ElfError(f"{phnum} program headers, 1 to {MAX_SEGMENTS} allowed")
    table = read_at(phoff, phnum * phentsize) if phoff < file_size else b""
    if len(table) < phnum * phentsize:
        raise ElfError(f"truncated ELF program headers at offset {phoff:#x}")
    segments, pvh_entry = [], None
    for p_type, _, offset, _, paddr, filesz, memsz, _ in _PHDR.iter_unpack(table):
        if p_type not in (PT_LOAD, PT_NOTE):
            continue
        if offset + filesz > file_size:
            raise ElfError(
                f"truncated ELF file: a segment ends at {offset + filesz:#x}, "
                f"the file at {file_size:#x}"
            )
        if p_type == PT_NOTE and pvh_entry is None:
            if filesz > MAX_NOTES:
                raise ElfError(f"ELF notes of {filesz} bytes, {MAX_NOTES} allowed")
            pvh_entry = find_pvh_entry(read_at(offset, filesz))
        elif p_type == PT_LOAD and memsz:
            if filesz > memsz:
                raise ElfError(f"segment at {paddr:#x}: {filesz:#x} file bytes in {memsz:#x}")
            segments.append(Segment(paddr, memsz, offset, filesz))
    if not segments:
        raise ElfError("no loadable segments in the ELF file")
    check_overlap(segments)
    return Elf(entry, segments, pvh_entry)


def check_overlap(segments: list[Segment]) -> None:
    """Refuse segments that share guest memory.

    Raises:
        ElfError: two of them do.
    """
    last_end = 0
    for segment in sorted(segments, key=lambda s: s.gpa):
        if segment.gpa < last_end:
            raise ElfError(f"segments overlap at {segment.gpa:#x}")
        last_end = segment.gpa + segment.mem_size


def find_pvh_entry(notes: bytes) -> int | None:
    """The 32-bit entry that a XEN_ELFNOTE_PHYS32_ENTRY note names (Xen's PVH boot ABI).

    A note section that ends in the middle of a note simply has no such note.
    """
    offset = 0
    while offset + _NHDR.size <= len(notes):
        name_size, desc_size, kind = _NHDR.unpack_from(notes, offset)
        name_at = offset + _NHDR.size
        desc_at = name_at + (name_size + 3 & ~3)
        offset = desc_at + (desc_size + 3 & ~3)
        if offset > len(notes) + 3:
            return None
        name = notes[name_at : name_at + name_size]
        if kind == XEN_ELFNOTE_PHYS32_ENTRY and name == b"Xen\0" and desc_size in (4, 8):
            return int.from_bytes(notes[desc_at : desc_at + desc_size], "little")
    return None
