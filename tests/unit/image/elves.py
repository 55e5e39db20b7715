"""ELF files made by hand."""

from struct import pack


def elf(
    *,
    interpreter=None,
    needed=(),
    runpath=None,
    rpath=None,
    soname=None,
    flags=0,
    kind=3,
    machine=62,
    bits=2,
    order=1,
):
    """A program or library with a dynamic section; all in one segment at address 0."""
    strings, places = bytearray(b"\0"), {}

    def place(text):
        places.setdefault(text, len(strings))
        if places[text] == len(strings):
            strings.extend(text.encode() + b"\0")
        return places[text]

    tags = [(1, place(name)) for name in needed]
    for tag, text in ((14, soname), (15, rpath), (29, runpath)):
        if text is not None:
            tags.append((tag, place(text)))
    count = 2 + (interpreter is not None)
    name = (interpreter or "").encode() + b"\0"
    name_at = 64 + 56 * count
    strings_at = name_at + len(name)
    dynamic_at = strings_at + len(strings)
    tags += [(5, strings_at), (10, len(strings)), (0x6FFFFFFB, flags), (0, 0)]
    dynamic = b"".join(pack("<qQ", *tag) for tag in tags)
    size = dynamic_at + len(dynamic)
    headers = [(1, 0, size), (2, dynamic_at, len(dynamic))]
    if interpreter is not None:
        headers.append((3, name_at, len(name)))
    table = b"".join(pack("<IIQQQQQQ", t, 5, at, at, at, n, n, 1) for t, at, n in headers)
    head = pack(
        "<4sBBBBB7xHHIQQQIHHHHHH",
        *(b"\x7fELF", bits, order, 1, 0, 0, kind, machine, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0),
    )
    return head + table + name + bytes(strings) + dynamic
