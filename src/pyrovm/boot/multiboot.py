"""Multiboot 1 kernels (Multiboot Specification 0.6.96): a header within the file's first 8 KiB.

The kernel is entered in 32-bit protected mode without paging; EBX points to the information that
:func:`write_info` makes.
"""

from __future__ import annotations

from struct import Struct, pack

from pyrovm.arch.x86 import layout
from pyrovm.boot import elf
from pyrovm.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.boot.elf import ReadAt
    from pyrovm.boot.loader import Initrd
    from pyrovm.memory.guest_memory import GuestMemory

SEARCH = 8192  # bytes from the file's beginning
HEADER_MAGIC, BOOT_MAGIC = 0x1BADB002, 0x2BADB002
# Requirements that this loader meets: modules on pages, memory information, and (which headless
# loaders ignore) a video mode.  Bit 16 says that the header tells addresses.
KNOWN_REQUIREMENTS, REQUIREMENTS = 0x7, 0xFFFF
HAS_ADDRESSES = 1 << 16

INFO_MEMORY, INFO_CMDLINE, INFO_MODS = 1 << 0, 1 << 2, 1 << 3
INFO_MMAP, INFO_LOADER_NAME = 1 << 6, 1 << 9
INFO_SIZE = 120
LOADER_NAME = b"pyrovm\0"

_MAGIC = HEADER_MAGIC.to_bytes(4, "little")
_HEADER = Struct("<III")
_ADDRESSES = Struct("<IIIII")  # of the header, of the load, its end, the bss's end, the entry
_EHDR32, _PHDR32 = Struct("<4sB11xHHIIIIIHHH"), Struct("<IIIIIIII")
_EHDR64, _PHDR64 = Struct("<4sB11xHHIQQQIHHH"), Struct("<IIQQQQQQ")


class MultibootError(ConfigError):
    """The file is not a multiboot kernel that can be loaded."""


class Header:
    """A multiboot header at ``offset`` of the file; ``addresses`` where it tells any."""

    __slots__ = ("addresses", "flags", "offset")

    def __init__(self, offset: int, flags: int, addresses: tuple[int, ...] | None) -> None:
        self.offset = offset
        self.flags = flags
        self.addresses = addresses


def find_header(data: bytes) -> Header | None:
    """The header in the file's first bytes, or None."""
    data = data[:SEARCH]
    offset = data.find(_MAGIC)
    while 0 <= offset <= len(data) - _HEADER.size:
        magic, flags, checksum = _HEADER.unpack_from(data, offset)
        if offset % 4 == 0 and (magic + flags + checksum) & 0xFFFF_FFFF == 0:
            at = offset + _HEADER.size
            if not flags & HAS_ADDRESSES:
                return Header(offset, flags, None)
            if at + _ADDRESSES.size <= len(data):
                return Header(offset, flags, _ADDRESSES.unpack_from(data, at))
        offset = data.find(_MAGIC, offset + 1)
    return None


def parse(read_at: ReadAt, file_size: int) -> tuple[int, list[elf.Segment]]:
    """The entry and the segments of a multiboot kernel of ``file_size`` bytes.

    Raises:
        MultibootError: it is none, asks for what there is not, or is damaged.
    """
    header = find_header(read_at(0, SEARCH))
    if header is None:
        raise MultibootError(f"no multiboot header in the first {SEARCH} bytes")
    unknown = header.flags & REQUIREMENTS & ~KNOWN_REQUIREMENTS
    if unknown:
        raise MultibootError(f"the multiboot header requires unknown features (flags {unknown:#x})")
    if header.addresses is not None:
        return _addressed(header.offset, header.addresses, file_size)
    entry, segments = _elf(read_at, file_size)
    try:
        elf.check_overlap(segments)
    except elf.ElfError as error:
        raise MultibootError(f"multiboot kernel: {error}") from None
    return entry, segments


def _addressed(
    offset: int, addresses: tuple[int, ...], file_size: int
) -> tuple[int, list[elf.Segment]]:
    header_at, load, load_end, bss_end, entry = addresses
    start = offset - (header_at - load)
    size = (load_end or load + file_size - start) - load
    if not load <= header_at or start < 0 or size <= 0 or start + size > file_size:
        raise MultibootError(
            f"the multiboot header's addresses (header {header_at:#x}, load {load:#x} to "
            f"{load_end:#x}) do not fit a file of {file_size} bytes"
        )
    mem_size = max(size, bss_end - load)
    return entry, [elf.Segment(load, mem_size, start, size)]


def _elf(read_at: ReadAt, file_size: int) -> tuple[int, list[elf.Segment]]:
    """A kernel without addresses is an ELF file, of either class."""
    raw = read_at(0, _EHDR64.size)
    if len(raw) < _EHDR64.size or raw[:4] != elf.MAGIC or raw[4] not in (1, 2):
        raise MultibootError("a multiboot kernel without addresses must be an ELF file")
    wide = raw[4] == 2
    fields = (_EHDR64 if wide else _EHDR32).unpack_from(raw)
    _, _, _, machine, _, entry, phoff, _, _, _, phentsize, count = fields
    record = _PHDR64 if wide else _PHDR32
    if machine not in (elf.EM_386, elf.EM_X86_64):
        raise MultibootError(f"multiboot kernel for machine {machine}, x86 expected")
    if phentsize != record.size or not 0 < count <= elf.MAX_SEGMENTS:
        raise MultibootError(
            f"multiboot kernel: {count} program headers of {phentsize} bytes, 1 to "
            f"{elf.MAX_SEGMENTS} of {record.size} expected"
        )
    table = read_at(phoff, count * phentsize) if phoff < file_size else b""
    if len(table) < count * phentsize:
        raise MultibootError(f"truncated ELF program headers at offset {phoff:#x}")
    segments = []
    for values in record.iter_unpack(table):
        if wide:
            kind, _, offset, _, paddr, filesz, memsz, _ = values
        else:
            kind, offset, _, paddr, filesz, memsz, _, _ = values
        if kind != elf.PT_LOAD or not memsz:
            continue
        if filesz > memsz or offset + filesz > file_size:
            raise MultibootError(
                f"multiboot kernel: the segment at {paddr:#x} does not fit its memory or the file"
            )
        segments.append(elf.Segment(paddr, memsz, offset, filesz))
    if not segments:
        raise MultibootError("nothing to load in the multiboot kernel")
    return entry, segments


def write_info(
    memory: GuestMemory,
    e820: list[tuple[int, int, int]],
    cmdline: bytes,
    initrd: Initrd | None,
) -> None:
    """The multiboot information, its module, memory map and strings; ``cmdline`` ends in NUL."""
    info = layout.MULTIBOOT_INFO
    module = info + INFO_SIZE
    name = module + 16
    flags = INFO_MEMORY | INFO_CMDLINE | INFO_MMAP | INFO_LOADER_NAME
    if initrd is not None:
        flags |= INFO_MODS
        empty = name + len(LOADER_NAME) - 1
        memory.write(module, pack("<IIII", initrd.gpa, initrd.gpa + initrd.size, empty, 0))
    upper = next((size for gpa, size, _ in e820 if gpa == layout.HIMEM), 0)
    entries = b"".join(pack("<IQQI", 20, gpa, size, kind) for gpa, size, kind in e820)
    fields = pack(
        "<IIIIIII16xII",
        flags,
        layout.SYSTEM_MEMORY >> 10,
        upper >> 10,
        0,
        layout.CMDLINE,
        0 if initrd is None else 1,
        0 if initrd is None else module,
        len(entries),
        layout.PVH_MEMORY_MAP,
    )
    memory.write(info, fields.ljust(64, b"\0") + pack("<I", name))
    memory.write(name, LOADER_NAME)
    memory.write(layout.PVH_MEMORY_MAP, entries)
    memory.write(layout.CMDLINE, cmdline)
