"""Programs and libraries that are to go into an image: ELF files, and the loader's cache."""

from __future__ import annotations

from struct import pack

from pyrovm.image import elf, ldcache

MAX_READS = 2 + elf.MAX_HEADERS + 1


def one_input(data: bytes) -> None:
    """Either a named error, or names that can be looked up."""
    reads = []

    def read_at(offset: int, size: int) -> bytes:
        reads.append(size)
        assert offset >= 0
        assert 0 <= size <= elf.MAX_STRINGS
        return data[offset : offset + size]

    try:
        found = elf.parse(read_at, len(data))
    except elf.ElfError:
        pass
    else:
        assert len(found.needed) <= elf.MAX_NEEDED
        for name in (*found.needed, *found.rpath, *found.runpath, found.soname or ""):
            assert "\0" not in name
            assert len(name) <= elf.MAX_PATH
        assert found.interpreter is None or found.interpreter.startswith("/")
    assert len(reads) <= MAX_READS
    try:
        libraries = ldcache.parse(data)
    except ldcache.CacheError:
        return
    first = {name: paths[0] for name, paths in libraries.items()}
    assert {n: p[0] for n, p in ldcache.parse(ldcache.encode(first)).items()} == first


def program(interpreter: bytes, strings: bytes, *tags: tuple[int, int]) -> bytes:
    """A dynamic program: headers, interpreter, strings, dynamic section, in one segment."""
    strings_at = 64 + 3 * 56 + len(interpreter)
    dynamic_at = strings_at + len(strings)
    every = [*tags, (elf.DT_STRTAB, strings_at), (elf.DT_STRSZ, len(strings)), (0, 0)]
    dynamic = b"".join(pack("<qQ", *tag) for tag in every)
    size = dynamic_at + len(dynamic)
    header = pack(
        "<4sBBBBB7xHHIQQQIHHHHHH",
        *(elf.MAGIC, 2, 1, 1, 0, 0, 3, 62, 1, 0, 64, 0, 0, 64, 56, 3, 0, 0, 0),
    )
    parts = [(1, 0, size), (2, dynamic_at, len(dynamic)), (3, 64 + 3 * 56, len(interpreter))]
    table = b"".join(pack("<IIQQQQQQ", kind, 5, at, at, at, n, n, 1) for kind, at, n in parts)
    return header + table + interpreter + strings + dynamic


SEEDS = [
    program(b"/lib64/ld-linux-x86-64.so.2\0", b"\0libc.so.6\0/opt\0", (1, 1), (29, 11)),
    program(b"/lib/ld-musl-x86_64.so.1\0", b"\0a\0", (1, 1), (15, 1), (14, 1), (0x6FFFFFFB, 1)),
    ldcache.encode({"libc.so.6": "/lib/libc.so.6", "libm.so.6": "/lib/libm.so.6"}),
    ldcache.OLD_MAGIC + bytes(5) + ldcache.encode({"libc.so.6": "/lib/libc.so.6"}),
]
WORDS = [ldcache.MAGIC, elf.MAGIC, b"$ORIGIN"]
