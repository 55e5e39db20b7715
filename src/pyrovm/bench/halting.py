"""A guest that says one word on its serial port and halts: it runs on any kind of KVM."""

from __future__ import annotations

from struct import pack

READY = "ready"
_ENTRY = 0x10_0000
_EHDR, _PHDR = 64, 56
_PVH_ENTRY = 18  # XEN_ELFNOTE_PHYS32_ENTRY


def kernel() -> bytes:
    """An ELF kernel with a PVH note, of 32-bit code: mov dx, 0x3f8; then each letter; then hlt."""
    code = b"\x66\xba\xf8\x03" + b"".join(b"\xb0" + bytes([c]) + b"\xee" for c in READY.encode())
    code += b"\xb0\n\xee" + b"\xf4\xeb\xfd"  # a new line; hlt, again and again
    note = pack("<III", 4, 4, _PVH_ENTRY) + b"Xen\0" + _ENTRY.to_bytes(4, "little")
    at = _EHDR + 2 * _PHDR
    load = pack("<IIQQQQQQ", 1, 5, at, 0, _ENTRY, len(code), len(code), 0x1000)
    notes = pack("<IIQQQQQQ", 4, 4, at + len(code), 0, 0, len(note), len(note), 4)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = pack("<HHIQQQIHHHHHH", 2, 62, 1, _ENTRY, _EHDR, 0, 0, _EHDR, _PHDR, 2, 0, 0, 0)
    return ident + header + load + notes + code + note
