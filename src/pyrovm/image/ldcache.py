"""``/etc/ld.so.cache``, in which glibc's loader looks up libraries: read, and written for images.

The format is that of glibc 2.2 and later ("new" in sysdeps/generic/dl-cache.h), alone or behind the
old one, little-endian.
"""

from __future__ import annotations

from functools import cmp_to_key
from struct import Struct

from pyrovm.errors import ConfigError

OLD_MAGIC = b"ld.so-1.7.0"
MAGIC = b"glibc-ld.so.cache1.1"
MAX_LIBRARIES = 100_000
X86_64 = 0x0303  # FLAG_ELF_LIBC6 | FLAG_X8664_LIB64

_OLD_HEADER = Struct("<11sxI")
_OLD_ENTRY_SIZE = 12
_HEADER = Struct("<20sIIB3xI12x")  # magic, libraries, bytes of strings, flags, extensions
_ENTRY = Struct("<iIIIQ")  # flags, name, path, OS version, hwcap
_LITTLE_ENDIAN = 2


class CacheError(ConfigError):
    """It is no such file, or a damaged one."""


def parse(data: bytes) -> dict[str, list[str]]:
    """Library name -> paths, first choice first; those of other architectures are left out.

    Libraries for newer processors (glibc-hwcaps) are left out too: the guest's may be any.

    Raises:
        CacheError: the file is damaged or of another format.
    """
    start = 0
    if data.startswith(OLD_MAGIC):
        if len(data) < _OLD_HEADER.size:
            raise CacheError("ld.so.cache ends within its header")
        _, count = _OLD_HEADER.unpack_from(data)
        start = _OLD_HEADER.size + count * _OLD_ENTRY_SIZE + 7 & ~7
    if data[start : start + len(MAGIC)] != MAGIC or len(data) < start + _HEADER.size:
        raise CacheError("ld.so.cache is of an unknown format")
    _, count, _, _, _ = _HEADER.unpack_from(data, start)
    end = start + _HEADER.size + count * _ENTRY.size
    if count > MAX_LIBRARIES or end > len(data):
        raise CacheError(f"ld.so.cache of {len(data)} bytes cannot hold {count} libraries")
    found: dict[str, list[str]] = {}
    for flags, name_at, path_at, _, hwcap in _ENTRY.iter_unpack(data[start + _HEADER.size : end]):
        if flags == X86_64 and not hwcap:
            name = _string(data, start + name_at)
            found.setdefault(name, []).append(_string(data, start + path_at))
    return found


def encode(libraries: dict[str, str]) -> bytes:
    """The file for these libraries (name -> path)."""
    # the loader searches by halving: the order is its own, descending
    names = sorted(libraries, key=cmp_to_key(compare), reverse=True)
    strings = bytearray()
    entries = bytearray()
    base = _HEADER.size + len(names) * _ENTRY.size
    for name in names:
        places = []
        for text in (name, libraries[name]):
            places.append(base + len(strings))
            strings += text.encode("utf-8", "surrogateescape") + b"\0"
        entries += _ENTRY.pack(X86_64, *places, 0, 0)
    header = _HEADER.pack(MAGIC, len(names), len(strings), _LITTLE_ENDIAN, 0)
    return header + bytes(entries) + bytes(strings)


def compare(one: str, other: str) -> int:
    """The order of _dl_cache_libcmp: numbers by value, and above all other characters."""
    a, b = _parts(one), _parts(other)
    for x, y in zip(a, b, strict=False):
        if x != y:
            return -1 if x < y else 1
    return (len(a) > len(b)) - (len(a) < len(b))


def _parts(name: str) -> list[tuple[int, int]]:
    """Characters as (0, byte), runs of digits as (1, value)."""
    parts: list[tuple[int, int]] = []
    digits = b""
    for byte in name.encode("utf-8", "surrogateescape"):
        if 0x30 <= byte <= 0x39:
            digits += bytes((byte,))
            continue
        if digits:
            parts.append((1, int(digits)))
            digits = b""
        parts.append((0, byte))
    if digits:
        parts.append((1, int(digits)))
    return parts


def _string(data: bytes, at: int) -> str:
    end = data.find(b"\0", at, at + 4097)
    if at >= len(data) or end < 0:
        raise CacheError(f"ld.so.cache of {len(data)} bytes has a name at {at}")
    return data[at:end].decode("utf-8", "surrogateescape")
