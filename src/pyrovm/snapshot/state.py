"""The state file: everything of a snapshot but guest memory, self-describing and checked.

::

    head      64 bytes: magic, format version, kind, time, size of the file, number of sections
    section   48 bytes: name, size, checksums; then the section; then zeros up to 8 bytes
    ...
    checksum   8 bytes over all before them

docs/reference/snapshot-format.md has it byte by byte.  The head never changes its form, so that
any version can say which version a file has.  Nothing is used before every checksum was compared.
A checksum finds damage, not malice: whoever restores treats what it reads as a guest's.
"""

from __future__ import annotations

import os
import sys
import time
from struct import Struct
from zlib import crc32

from pyrovm.errors import HostError, SnapshotError
from pyrovm.snapshot import tree
from pyrovm.snapshot.part import Part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MAGIC = b"\x93PYROVM\n"
# Of the format.  A reader takes its own major version with no higher minor one; a minor version
# adds sections or fields that have a default.
VERSION = (1, 0, 0)
STATE_MAX = 10_000_000  # bytes, as Firecracker's
SECTIONS_MAX = 4096

# What may be in a file of each kind: section -> whether it has to be.  A name that ends with a dot
# stands for that name with numbers 0, 1, ... behind it.
SECTIONS: dict[str, dict[str, bool]] = {
    "machine": {
        "host": False,  # CPU and kernel of the machine that it was taken on
        "config": True,  # as the API knows it: machine, boot source, drives, interfaces ...
        "memory": True,  # pyrovm.snapshot.layout.Layout
        "vm": True,  # interrupt chips, timer, clock
        "vcpu.": True,
        "devices": True,
        "mmds": False,
    },
    "program": {
        "host": False,
        "config": True,
        "memory": True,
        "vm": False,
        "vcpu.": True,
        "process": False,  # descriptors, sockets, folders
    },
}
KINDS = tuple(SECTIONS)  # their numbers in the head count from 1

_HEAD = Struct("<8sHHHHQQI24s")
_SECTION = Struct("<32sQI")
_CRC = Struct("<I")
HEAD_SIZE = _HEAD.size + _CRC.size
SECTION_HEAD_SIZE = _SECTION.size + _CRC.size
CHECKSUM_SIZE = 8
_ALIGNMENT = 8


class Section:
    """Where a section is in its file; ``size`` in bytes without its head."""

    __slots__ = ("crc", "name", "offset", "size")

    def __init__(self, name: str, offset: int, size: int, crc: int) -> None:
        self.name = name
        self.offset = offset
        self.size = size
        self.crc = crc


class State:
    """A state file that was found whole; ``values`` are the sections as they were saved.

    ``created_ns`` is the wall clock at the save, in ns since 1970; ``path`` is for messages.
    """

    __slots__ = ("created_ns", "kind", "path", "sections", "size", "values", "version", "writer")

    def __init__(self, path: str, head: _Head) -> None:
        self.path = path
        self.kind = head.kind
        self.version = head.version
        self.writer = head.writer  # pyrovm's version
        self.created_ns = head.created_ns
        self.size = head.size
        self.sections: list[Section] = []
        self.values: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """A section.

        Raises:
            SnapshotError: the file has none of this name.
        """
        if name not in self.values:
            raise _broken(self.path, f"no section {name!r}; there are {', '.join(self.values)}")
        return self.values[name]

    def get(self, name: str, default: Any = None) -> Any:
        """A section, or ``default``."""
        return self.values.get(name, default)

    def numbered(self, prefix: str) -> list[Any]:
        """The sections ``prefix0``, ``prefix1`` ... in order, such as those of ``vcpu.``."""
        found: list[Any] = []
        while f"{prefix}{len(found)}" in self.values:
            found.append(self.values[f"{prefix}{len(found)}"])
        return found


def prepare(path: str, kind: str, sections: Mapping[str, Any]) -> Part:
    """A state file that is written but not yet under its name: see :class:`Part`.

    ``sections`` are in the order in which they are written; values as :mod:`.tree` takes them.

    Raises:
        HostError: the file cannot be written.
        ValueError: a section is unknown, missing or cannot be saved (our own mistake).
    """
    data = encode(kind, sections)
    part = Part(path)
    try:
        part.write(data, 0)
    except BaseException:
        part.discard()
        raise
    return part


def write(path: str, kind: str, sections: Mapping[str, Any]) -> None:
    """:func:`prepare` and publish."""
    prepare(path, kind, sections).publish()


def encode(kind: str, sections: Mapping[str, Any], *, created_ns: int | None = None) -> bytes:
    """The bytes of a state file; ``created_ns`` is now unless given.

    Raises:
        ValueError: as :func:`prepare`.
    """
    problem = _wrong_sections(kind, list(sections))
    if problem:
        raise ValueError(problem)
    body = bytearray()
    for name, value in sections.items():
        try:
            data = tree.encode(value)
        except tree.TreeError as error:
            raise ValueError(f"section {name}: {error}") from None
        head = _SECTION.pack(name.encode(), len(data), crc32(data))
        body += head + _CRC.pack(crc32(head)) + data + bytes(-len(data) % _ALIGNMENT)
    size = HEAD_SIZE + len(body) + CHECKSUM_SIZE
    if size > STATE_MAX:
        raise ValueError(f"a state file of {size} bytes; {STATE_MAX} are allowed")
    head = _HEAD.pack(
        MAGIC,
        *VERSION,
        KINDS.index(kind) + 1,
        time.time_ns() if created_ns is None else created_ns,
        size,
        len(sections),
        _writer().encode(),
    )
    data = head + _CRC.pack(crc32(head)) + body
    return data + _checksum(data)


def _writer() -> str:
    # Not imported: the package's names lead up to every room.
    version: str = sys.modules["pyrovm"].__version__
    return version


def read(path: str) -> State:
    """A state file, wholly checked.

    Raises:
        HostError: it cannot be opened or read.
        SnapshotError: it is damaged, cut off, of another version, or no state file.
    """
    return parse(_load(path, STATE_MAX), path)


def read_version(path: str) -> tuple[int, int, int]:
    """The format version of a state file, also of one that is too new to be read.

    Raises:
        HostError: it cannot be opened or read.
        SnapshotError: its head is damaged, or it is no state file.
    """
    return _Head(_load(path, HEAD_SIZE, is_whole=False), path).version


def _load(path: str, limit: int, *, is_whole: bool = True) -> bytes:
    try:
        # Not to wait for a FIFO's other end.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise HostError.wrap("Failed to open snapshot file", error) from None
    try:
        data = b""
        while len(data) <= limit:
            chunk = os.read(fd, limit + 1 - len(data))
            if not chunk:
                break
            data += chunk
    except OSError as error:
        raise HostError.wrap(f"Failed to load snapshot state from file: {path}", error) from None
    finally:
        os.close(fd)
    if is_whole and len(data) > limit:
        _Head(data, path)  # if it is another file altogether, that is the better answer
        raise _broken(path, f"larger than any state file; {limit} bytes are allowed")
    return data


class _Head:
    """The first bytes of a file, checked."""

    def __init__(self, data: bytes, path: str) -> None:
        if len(data) < HEAD_SIZE:
            raise _broken(
                path,
                f"IO Error: File too short to contain CRC: {len(data)} bytes, {HEAD_SIZE} needed",
            )
        magic, major, minor, patch, kind, created_ns, size, count, writer = _HEAD.unpack_from(data)
        if magic != MAGIC:
            found = int.from_bytes(magic, "little")
            raise _broken(
                path,
                f"Magic value does not match arch: {found:#x}: not a state file of pyrovm "
                "(a memory file, or a snapshot of Firecracker itself, whose format is its own?)",
            )
        if _CRC.unpack_from(data, _HEAD.size)[0] != crc32(data[: _HEAD.size]):
            raise _broken(path, "CRC64 validation failed: head: its checksum is another")
        self.version = (major, minor, patch)
        self.kind_number = kind
        self.created_ns = created_ns
        self.size = size
        self.count = count
        self.writer = writer.rstrip(b"\0").decode("ascii", "replace")

    @property
    def kind(self) -> str:
        return KINDS[self.kind_number - 1] if 1 <= self.kind_number <= len(KINDS) else ""


def parse(data: bytes, path: str = "state") -> State:
    """A state file from its bytes; ``path`` is for messages.

    Raises:
        SnapshotError: as :func:`read`.
    """
    head = _Head(data, path)
    if head.version[0] != VERSION[0] or head.version[1] > VERSION[1]:
        raise _broken(
            path,
            f"Invalid data version: {version_text(head.version)}: this pyrovm reads "
            f"{VERSION[0]}.0.x to {VERSION[0]}.{VERSION[1]}.x (the file is by {head.writer!r})",
        )
    if len(data) != head.size:
        raise _broken(path, f"{len(data)} bytes; its head says {head.size}")
    if not head.kind:
        raise _broken(path, f"kind {head.kind_number}; 1 to {len(KINDS)} are known")
    if head.count > SECTIONS_MAX:
        raise _broken(path, f"{head.count} sections; {SECTIONS_MAX} are allowed")
    state = State(path, head)
    end = len(data) - CHECKSUM_SIZE
    at = HEAD_SIZE
    for index in range(head.count):
        section = _section_at(data, at, end, index, path)
        at = section.offset + section.size
        padding = -section.size % _ALIGNMENT
        if data[at : at + padding] != bytes(padding):
            raise _broken(path, f"CRC64 validation failed: padding after {section.name!r} not zero")
        at += padding
        state.sections.append(section)
    if at != end:
        raise _broken(path, f"{end - at} bytes between the last section and the checksum")
    if data[end:] != _checksum(data[:end]):
        raise _broken(path, "CRC64 validation failed: the file's checksum is another")
    problem = _wrong_sections(state.kind, [section.name for section in state.sections])
    if problem:
        raise _broken(path, problem)
    for section in state.sections:
        try:
            value = tree.decode(data[section.offset : section.offset + section.size])
        except tree.TreeError as error:
            raise _broken(path, f"section {section.name}: {error}") from None
        state.values[section.name] = value
    return state


def _section_at(data: bytes, at: int, end: int, index: int, path: str) -> Section:
    offset = at + SECTION_HEAD_SIZE
    if offset > end:
        raise _broken(path, f"section {index}: no room for its head at {at}")
    head = data[at : at + _SECTION.size]
    if _CRC.unpack_from(data, at + _SECTION.size)[0] != crc32(head):
        raise _broken(path, f"CRC64 validation failed: head of section {index} at {at}")
    raw_name, size, crc = _SECTION.unpack(head)
    name = raw_name.rstrip(b"\0").decode("ascii", "replace")
    if size + -size % _ALIGNMENT > end - offset:
        raise _broken(path, f"section {name}: {size} bytes; {end - offset} are left in the file")
    if crc32(data[offset : offset + size]) != crc:
        raise _broken(path, f"CRC64 validation failed: section {name} at {offset}, {size} bytes")
    return Section(name, offset, size, crc)


def _wrong_sections(kind: str, names: list[str]) -> str:
    """What is wrong with a set of sections; empty if nothing is."""
    known = SECTIONS[kind]
    for name in names:
        stem, dot, number = name.rpartition(".")
        if name not in known and not (dot and stem + dot in known and number.isdecimal()):
            return f"section {name!r} is unknown; a {kind} has {', '.join(known)}"
        if names.count(name) > 1:
            return f"section {name!r} is there {names.count(name)} times"
    for name, is_needed in known.items():
        if is_needed and name not in names and f"{name}0" not in names:
            return f"no section {name!r}; a {kind} needs it"
    return ""


def _checksum(data: bytes) -> bytes:
    # hashlib would import OpenSSL; the same from 3.11 to 3.14.
    from _blake2 import blake2b

    digest: bytes = blake2b(data, digest_size=CHECKSUM_SIZE).digest()
    return digest


def version_text(version: tuple[int, int, int]) -> str:
    """``1.0.0``."""
    return ".".join(map(str, version))


def _broken(path: str, problem: str) -> SnapshotError:
    # The beginnings are Firecracker's: its clients look for them.
    return SnapshotError(f"Failed to load snapshot state from file: {problem} [{path}]")
