"""Programs and libraries as ELF files: an untrusted file in, what it asks of the loader out.

System V ABI, chapters 4 and 5, with the GNU extensions that the loaders of glibc and musl heed.
Nothing is executed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from struct import Struct

from pyrovm.errors import ConfigError

ReadAt = Callable[[int, int], bytes]  # (offset, size) -> bytes, shorter at the end of the file

MAGIC = b"\x7fELF"
MAX_HEADERS = 256
MAX_DYNAMIC = 64 << 10  # bytes of the dynamic section
MAX_STRINGS = 16 << 20  # bytes of its string table
MAX_NEEDED = 4096
MAX_PATH = 4096

ET_EXEC, ET_DYN = 2, 3
EM_X86_64 = 62
PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NEEDED, DT_STRTAB, DT_STRSZ, DT_SONAME, DT_RPATH, DT_RUNPATH = 1, 5, 10, 14, 15, 29
DT_FLAGS_1 = 0x6FFFFFFB
DF_1_NODEFLIB = 0x800
DF_1_PIE = 0x8000000

_HEADER = Struct("<4sBBBBB7xHHIQQQIHHHHHH")
_PROGRAM_HEADER = Struct("<IIQQQQQQ")
_DYNAMIC = Struct("<qQ")
_TYPES = {0: "nothing", 1: "an object file (.o)", 4: "a core dump"}
_MACHINES = {
    2: "SPARC",
    3: "32-bit x86",
    8: "MIPS",
    20: "PowerPC",
    21: "64-bit PowerPC",
    22: "S390",
    40: "32-bit ARM",
    43: "SPARC V9",
    183: "64-bit ARM (AArch64)",
    243: "RISC-V",
    258: "LoongArch",
}


class ElfError(ConfigError):
    """Why a file cannot be run or loaded."""


class OtherArchitecture(ElfError):
    """It is a sound file for another machine; loaders skip such libraries."""


@dataclasses.dataclass(frozen=True)
class Elf:
    """What an ELF file asks of the loader."""

    is_fixed: bool  # to be loaded where it says (ET_EXEC)
    is_pie: bool  # a program that calls itself position-independent
    interpreter: str | None  # of a dynamic program
    is_dynamic: bool  # it has a dynamic section; static-PIE programs have one as well
    needed: tuple[str, ...]
    soname: str | None
    rpath: tuple[str, ...]  # not expanded: $ORIGIN and the like are in it
    runpath: tuple[str, ...]
    no_default_libraries: bool

    @property
    def is_program(self) -> bool:
        """Whether it can be started, as far as a file tells."""
        return self.is_fixed or self.is_pie or self.interpreter is not None


def parse(read_at: ReadAt, file_size: int) -> Elf:
    """Check an ELF file and take out what the loader needs.

    Raises:
        OtherArchitecture: it is not for x86-64.
        ElfError: it is no ELF file, damaged or truncated.
    """
    kind, table = _header(read_at)
    loads: list[tuple[int, int, int]] = []  # address, size in the file, offset
    interpreter, dynamic = None, None
    for p_type, _, offset, address, _, size, _, _ in _PROGRAM_HEADER.iter_unpack(table):
        if p_type not in (PT_LOAD, PT_DYNAMIC, PT_INTERP):
            continue
        if offset + size > file_size:
            raise ElfError(
                f"truncated ELF file: a segment ends at byte {offset + size}, "
                f"the file at {file_size}"
            )
        if p_type == PT_LOAD:
            loads.append((address, size, offset))
        elif p_type == PT_INTERP:
            interpreter = _interpreter(read_at, offset, size)
        elif size > MAX_DYNAMIC:
            raise ElfError(f"dynamic section of {size} bytes, {MAX_DYNAMIC} allowed")
        else:
            dynamic = read_at(offset, size)
    if not loads:
        raise ElfError("ELF file without a segment to load")
    tags, strings = _dynamic(read_at, dynamic or b"", loads)
    flags = _last(tags, DT_FLAGS_1) or 0
    return Elf(
        is_fixed=kind == ET_EXEC,
        is_pie=bool(flags & DF_1_PIE),
        interpreter=interpreter,
        is_dynamic=dynamic is not None,
        needed=tuple(_string(strings, at) for at in tags.get(DT_NEEDED, [])),
        soname=_optional_string(strings, _last(tags, DT_SONAME)),
        rpath=_path(strings, _last(tags, DT_RPATH)),
        runpath=_path(strings, _last(tags, DT_RUNPATH)),
        no_default_libraries=bool(flags & DF_1_NODEFLIB),
    )


def _header(read_at: ReadAt) -> tuple[int, bytes]:
    """The type (ET_EXEC or ET_DYN) and the program headers."""
    head = read_at(0, _HEADER.size)
    if head[:4] != MAGIC:
        raise ElfError("no ELF file: it does not begin with 7f 45 4c 46")
    if len(head) < _HEADER.size:
        raise ElfError(f"truncated ELF file: {len(head)} bytes, its header has {_HEADER.size}")
    (_, bits, order, _, _, _, kind, machine, _, _, table_at, _, _, _, entry_size, count, *_) = (
        _HEADER.unpack(head)
    )
    if order == 2:
        machine = machine >> 8 | (machine & 0xFF) << 8
    if (bits, order, machine) != (2, 1, EM_X86_64):
        if machine == EM_X86_64:
            what = "x86-64 with 32-bit addresses (x32)" if bits == 1 else "big-endian x86-64"
        else:
            what = _MACHINES.get(machine, f"machine number {machine}")
        raise OtherArchitecture(f"it is for {what}, not for x86-64")
    if kind not in (ET_EXEC, ET_DYN):
        raise ElfError(f"it is {_TYPES.get(kind, f'of type {kind}')}, not a program or library")
    if not count or count > MAX_HEADERS:
        raise ElfError(f"{count} program headers, 1 to {MAX_HEADERS} allowed")
    if entry_size != _PROGRAM_HEADER.size:
        raise ElfError(f"program headers of {entry_size} bytes, {_PROGRAM_HEADER.size} expected")
    table = read_at(table_at, entry_size * count)
    if len(table) < entry_size * count:
        raise ElfError(f"truncated ELF file: it ends within its {count} program headers")
    return kind, table


def _interpreter(read_at: ReadAt, offset: int, size: int) -> str:
    if not 2 <= size <= MAX_PATH:
        raise ElfError(f"interpreter's name of {size} bytes, 2 to {MAX_PATH} allowed")
    name = read_at(offset, size).partition(b"\0")[0].decode("utf-8", "surrogateescape")
    if not name.startswith("/"):
        raise ElfError(f"interpreter {name!r} is no absolute path")
    return name


def _dynamic(
    read_at: ReadAt, section: bytes, loads: list[tuple[int, int, int]]
) -> tuple[dict[int, list[int]], bytes]:
    """The tags of the dynamic section, and its string table."""
    tags: dict[int, list[int]] = {}
    for tag, value in _DYNAMIC.iter_unpack(section[: len(section) // 16 * 16]):
        if tag == 0:
            break
        tags.setdefault(tag, []).append(value)
    if len(tags.get(DT_NEEDED, [])) > MAX_NEEDED:
        raise ElfError(f"more than {MAX_NEEDED} needed libraries")
    address, size = _last(tags, DT_STRTAB), _last(tags, DT_STRSZ)
    if address is None or size is None:
        return tags, b""
    if size > MAX_STRINGS:
        raise ElfError(f"string table of {size} bytes, {MAX_STRINGS} allowed")
    for start, length, offset in loads:
        if start <= address and address + size <= start + length:
            return tags, read_at(offset + address - start, size)
    raise ElfError(f"string table at {address:#x} lies in no segment of the file")


def _last(tags: dict[int, list[int]], tag: int) -> int | None:
    values = tags.get(tag)
    return values[-1] if values else None


def _string(strings: bytes, at: int) -> str:
    end = strings.find(b"\0", at, at + MAX_PATH + 1)
    if at >= len(strings) or end < 0:
        raise ElfError(f"name at {at} of a string table of {len(strings)} bytes")
    return strings[at:end].decode("utf-8", "surrogateescape")


def _optional_string(strings: bytes, at: int | None) -> str | None:
    return None if at is None else _string(strings, at)


def _path(strings: bytes, at: int | None) -> tuple[str, ...]:
    if at is None:
        return ()
    return tuple(folder for folder in _string(strings, at).split(":") if folder)
