"""Guests of a few bytes that run on any kind of KVM: one halts, one is busy with its memory."""

from __future__ import annotations

from struct import pack

MIB = 1 << 20
READY = "ready"
TICK_PAGES = 64  # that the busy one writes to between two ticks
_ENTRY = 0x10_0000
_EHDR, _PHDR = 64, 56
_PVH_ENTRY = 18  # XEN_ELFNOTE_PHYS32_ENTRY
_SERIAL = b"\x66\xba\xf8\x03"  # mov dx, 0x3f8


def kernel() -> bytes:
    """Says one word on its serial port and halts."""
    code = _SERIAL + b"".join(_say(c) for c in READY.encode())
    return _elf(code + _say(ord("\n")) + b"\xf4\xeb\xfd")  # hlt, again and again


def busy_kernel(memory_mib: int) -> bytes:
    """Writes to one page of its memory after the other, for ever, from 2 MiB on.

    Says ``.`` on its serial port after each ``TICK_PAGES``, a new line after each time round.
    """
    begin, end = 2 * MIB, memory_mib * MIB
    tick = _say(ord("."))
    page = b"\xfe\x07"  # inc byte [edi]
    page += b"\x81\xc7" + pack("<I", 4096)  # add edi, 4096
    page += b"\xf7\xc7" + pack("<I", TICK_PAGES * 4096 - 1)  # test edi, ...
    page += b"\x75" + bytes([len(tick)]) + tick  # jnz behind it
    page += b"\x81\xff" + pack("<I", end)  # cmp edi, end
    page += b"\x72" + bytes([256 - len(page) - 2])  # jb to the page's beginning
    round_ = b"\xbf" + pack("<I", begin) + page + _say(ord("\n"))  # mov edi, begin
    return _elf(_SERIAL + round_ + b"\xeb" + bytes([256 - len(round_) - 2]))  # jmp


def _say(character: int) -> bytes:
    return b"\xb0" + bytes([character]) + b"\xee"  # mov al, ...; out dx, al


def _elf(code: bytes) -> bytes:
    """An ELF kernel with a PVH note, of 32-bit code."""
    note = pack("<III", 4, 4, _PVH_ENTRY) + b"Xen\0" + _ENTRY.to_bytes(4, "little")
    at = _EHDR + 2 * _PHDR
    load = pack("<IIQQQQQQ", 1, 5, at, 0, _ENTRY, len(code), len(code), 0x1000)
    notes = pack("<IIQQQQQQ", 4, 4, at + len(code), 0, 0, len(note), len(note), 4)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = pack("<HHIQQQIHHHHHH", 2, 62, 1, _ENTRY, _EHDR, 0, 0, _EHDR, _PHDR, 2, 0, 0, 0)
    return ident + header + load + notes + code + note
