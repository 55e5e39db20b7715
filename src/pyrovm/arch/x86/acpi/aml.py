"""As much of ACPI Machine Language as a DSDT of fixed devices needs (ACPI 6.5, chapter 20).

Every function returns the encoded bytes of one term; terms are joined with ``+``.
"""

from __future__ import annotations

from struct import pack

ARG0 = b"\x68"

# ----------------------------------------------------------------- names and data


def name_string(path: str) -> bytes:
    """``\\_SB.VGEN`` or ``_CRS``: name segments of up to four letters (20.2.2).

    Raises:
        ValueError: a segment is no name.
    """
    root, relative = (b"\\", path[1:]) if path.startswith("\\") else (b"", path)
    segments = []
    for part in relative.split("."):
        if not (0 < len(part) <= 4 and part.isascii() and part.replace("_", "A").isalnum()):
            raise ValueError(f"{part!r} in {path!r} is no ACPI name")
        segments.append(part.upper().ljust(4, "_").encode())
    if len(segments) == 1:
        prefix = b""
    elif len(segments) == 2:
        prefix = b"\x2e"
    else:
        prefix = pack("<BB", 0x2F, len(segments))
    return root + prefix + b"".join(segments)


def integer(value: int) -> bytes:
    """A constant of 0 to 2^64 - 1 in its shortest form (20.2.3)."""
    if value < 2:
        return pack("<B", value)
    if value < 1 << 8:
        return pack("<BB", 0x0A, value)
    if value < 1 << 16:
        return pack("<BH", 0x0B, value)
    if value < 1 << 32:
        return pack("<BI", 0x0C, value)
    return pack("<BQ", 0x0E, value)


def string(text: str) -> bytes:
    """A NUL-terminated ASCII string."""
    return b"\x0d" + text.encode("ascii") + b"\0"


def eisa_id(text: str) -> bytes:
    """The 32-bit form of a Plug and Play id such as ``PNP0501`` (19.3.4)."""
    letters = 0
    for letter in text[:3]:
        letters = letters << 5 | ord(letter) - 0x40
    number = letters << 16 | int(text[3:], 16)
    return integer(int.from_bytes(number.to_bytes(4, "big"), "little"))


def buffer(data: bytes) -> bytes:
    """A buffer with these contents."""
    return b"\x11" + _package(integer(len(data)) + data)


def package(*elements: bytes) -> bytes:
    """A package of encoded elements."""
    return b"\x12" + _package(pack("<B", len(elements)) + b"".join(elements))


def _package(body: bytes) -> bytes:
    """``body`` behind its length, which counts itself (20.2.4)."""
    size = len(body)
    if size + 1 < 1 << 6:
        return pack("<B", size + 1) + body
    for extra in range(1, 4):
        total = size + 1 + extra
        if total < 1 << 4 + 8 * extra:
            return (
                pack("<B", extra << 6 | total & 0xF) + (total >> 4).to_bytes(extra, "little") + body
            )
    raise ValueError(f"{size} bytes are too many for one AML package")


# ---------------------------------------------------------------- named objects


def name(path: str, value: bytes) -> bytes:
    """``Name (path, value)``."""
    return b"\x08" + name_string(path) + value


def scope(path: str, *terms: bytes) -> bytes:
    """``Scope (path) { terms }``."""
    return b"\x10" + _package(name_string(path) + b"".join(terms))


def device(path: str, *terms: bytes) -> bytes:
    """``Device (path) { terms }``."""
    return b"\x5b\x82" + _package(name_string(path) + b"".join(terms))


def method(path: str, arguments: int, *terms: bytes) -> bytes:
    """``Method (path, arguments, Serialized) { terms }``."""
    return b"\x14" + _package(name_string(path) + pack("<B", arguments | 8) + b"".join(terms))


# -------------------------------------------------------------------- statements


def if_equal(left: bytes, right: bytes, *terms: bytes) -> bytes:
    """``If (left == right) { terms }``."""
    return b"\xa0" + _package(b"\x93" + left + right + b"".join(terms))


def notify(path: str, value: int) -> bytes:
    """``Notify (path, value)``."""
    return b"\x86" + name_string(path) + integer(value)


# --------------------------------------------------------------------- resources


def resources(*descriptors: bytes) -> bytes:
    """A ``ResourceTemplate`` (6.4), closed by its end tag."""
    return buffer(b"".join(descriptors) + b"\x79\x00")


def memory32(base: int, size: int) -> bytes:
    """``Memory32Fixed (ReadWrite)``."""
    return pack("<BHBII", 0x86, 9, 1, base, size)


def io_ports(base: int, count: int) -> bytes:
    """``IO (Decode16)``."""
    return pack("<BBHHBB", 0x47, 1, base, base, 1, count)


def interrupt(gsi: int) -> bytes:
    """``Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive)``."""
    return pack("<BHBBI", 0x89, 6, 0b0011, 1, gsi)


# Address space descriptors (6.4.3.5): general flags say that both ends are fixed.
_MEMORY, _BUS = 0, 2
_FIXED = 0x0C
_CONSUMED = 0x01
READ_WRITE, CACHEABLE = 0x01, 0x02


def memory_range32(base: int, size: int) -> bytes:
    """``DWordMemory`` that a bridge passes on, not cacheable, read-write."""
    end = base + size - 1
    return pack("<BHBBBIIIII", 0x87, 23, _MEMORY, _FIXED, READ_WRITE, 0, base, end, 0, size)


def memory_range64(base: int, size: int) -> bytes:
    """``QWordMemory`` that a bridge passes on, cacheable, read-write."""
    flags = READ_WRITE | CACHEABLE
    end = base + size - 1
    return pack("<BHBBBQQQQQ", 0x8A, 43, _MEMORY, _FIXED, flags, 0, base, end, 0, size)


def memory_window(base: int, size: int) -> bytes:
    """``QWordMemory (ResourceConsumer)``, cacheable and read-only: memory that a device fills."""
    end = base + size - 1
    general = _FIXED | _CONSUMED
    return pack("<BHBBBQQQQQ", 0x8A, 43, _MEMORY, general, CACHEABLE, 0, base, end, 0, size)


def bus_range(first: int, last: int) -> bytes:
    """``WordBusNumber`` that a host bridge produces."""
    return pack("<BHBBBHHHHH", 0x88, 13, _BUS, _FIXED, 0, 0, first, last, 0, last - first + 1)
