"""Kernels small enough to read, built by hand."""

from struct import pack

EHDR, PHDR = 64, 56


def elf(segments, *, entry=0x100000, notes=b"", kind=2, machine=62, bits=2, phnum=None):
    """An ELF file; ``segments`` are (paddr, data, mem_size)."""
    headers, body = b"", b""
    count = len(segments) + bool(notes)
    start = EHDR + PHDR * count
    for paddr, data, mem_size in segments:
        offset = start + len(body)
        headers += pack("<IIQQQQQQ", 1, 5, offset, 0, paddr, len(data), mem_size, 0x1000)
        body += data
    if notes:
        offset = start + len(body)
        headers += pack("<IIQQQQQQ", 4, 4, offset, 0, 0, len(notes), len(notes), 4)
        body += notes
    ident = b"\x7fELF" + bytes([bits, 1, 1]) + bytes(9)
    header = ident + pack(
        "<HHIQQQIHHHHHH",
        kind,
        machine,
        1,
        entry,
        EHDR,
        0,
        0,
        EHDR,
        PHDR,
        count if phnum is None else phnum,
        0,
        0,
        0,
    )
    return header + headers + body


def padded(data):
    """``data`` up to the next word."""
    return data + bytes(-len(data) % 4)


def note(name, kind, desc):
    """One ELF note."""
    return pack("<III", len(name), len(desc), kind) + padded(name) + padded(desc)


def pvh_note(entry, size=4):
    """The note that makes a kernel a PVH kernel."""
    return note(b"Xen\0", 18, entry.to_bytes(size, "little"))


def bzimage(
    kernel=b"\x90" * 0x400,
    *,
    sectors=1,
    version=0x020F,
    xloadflags=1,
    magic=b"HdrS",
    boot_flag=0xAA55,
    init_size=0x1000,
    pref_address=0,
    jump=0x6A,
):
    """A bzImage with ``sectors`` setup sectors."""
    raw = bytearray((sectors + 1) * 512 if sectors else 5 * 512)
    raw[0x1F1] = sectors
    raw[0x1FE:0x200] = pack("<H", boot_flag)
    raw[0x200:0x202] = bytes([0xEB, jump])
    raw[0x202:0x206] = magic
    raw[0x206:0x208] = pack("<H", version)
    raw[0x236:0x238] = pack("<H", xloadflags)
    raw[0x258:0x260] = pack("<Q", pref_address)
    raw[0x260:0x264] = pack("<I", init_size)
    return bytes(raw) + kernel


def reader(data):
    """``read_at`` of the parsers."""
    return lambda offset, size: data[offset : offset + size]


def into(data, *, chunk=None):
    """``read_into`` of the loader; ``chunk`` limits one read, as a pipe would."""

    def read_into(offset, view):
        piece = data[offset : offset + min(len(view), chunk or len(view))]
        view[: len(piece)] = piece
        return len(piece)

    return read_into
