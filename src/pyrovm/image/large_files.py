"""Large programs and libraries at multiples of 2 MiB of an image: what fills such a piece can be
mapped in one huge page, in the guest as on the host.

mkfs.erofs packs files closely, so it gets these as empty ones.  Their contents follow behind all
else, and their inodes are told of it (Linux' fs/erofs/erofs_fs.h; libos/fs/erofs.c reads the same).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from struct import Struct
from typing import BinaryIO

from pyrovm.errors import HostError

SMALLEST = 4 << 20  # bytes; of a smaller one, code and constants hardly fill 2 MiB
ALIGNMENT = 2 << 20
BLOCK_SIZE = 4096
_MAGIC = b"\x7fELF"

_SUPERBLOCK_AT = 1024
_HEAD = Struct("<IIIBBHQQIII")  # to the metadata's block, as in erofs.py
_COMPATIBLE_AT, _BLOCKS_AT = _SUPERBLOCK_AT + 8, _SUPERBLOCK_AT + 36
_CHECKSUM_AT, _HAS_CHECKSUM = _SUPERBLOCK_AT + 4, 1
_U16, _U32, _U64 = Struct("<H"), Struct("<I"), Struct("<Q")
_INODE = Struct("<HHHH")  # format, extended attributes, mode, links or unused
_SIZE_AT, _BLOCK_AT, _INODE_SIZE, _EXTENDED_SIZE = 8, 16, 32, 64
_IS_EXTENDED, _LAYOUT_MASK, _INLINE = 1, 7 << 1, 2 << 1
_ENTRY = Struct("<QHBB")  # nid, where the name begins, kind, unused


def take_out(staging: Path, folder: Path) -> dict[str, Path]:
    """Leave the large ELF files below ``staging`` empty: their paths, and where in ``folder`` the
    contents are now."""
    found: dict[str, Path] = {}
    for parent, _, names in os.walk(staging):
        for name in names:
            path = Path(parent, name)
            if not path.is_symlink() and path.stat().st_size >= SMALLEST and _is_elf(path):
                moved = folder / f"large-{len(found)}"
                path.rename(moved)
                path.touch()
                shutil.copymode(moved, path)
                found[f"/{path.relative_to(staging)}"] = moved
    return found


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def put_back(image: Path, files: dict[str, Path]) -> None:
    """Give the empty files of an image their contents, each at a multiple of 2 MiB.

    Raises:
        HostError: the image has no such empty file.
    """
    if not files:
        return
    with image.open("r+b") as file:
        head = _HEAD.unpack(_read(file, _SUPERBLOCK_AT, _HEAD.size))
        root, meta = head[5], head[10] * BLOCK_SIZE
        end = os.fstat(file.fileno()).st_size
        for path, contents in sorted(files.items()):
            at = meta + _INODE_SIZE * _find(file, meta, root, path)
            start = -(-end // ALIGNMENT) * ALIGNMENT
            file.seek(start)
            with contents.open("rb") as source:
                shutil.copyfileobj(source, file, ALIGNMENT)
            size = file.tell() - start
            end = -(-file.tell() // BLOCK_SIZE) * BLOCK_SIZE
            _write_inode(file, at, size, start // BLOCK_SIZE, path)
        file.truncate(end)
        _write(file, _BLOCKS_AT, _U32.pack(end // BLOCK_SIZE))
        # The checksum is of what has changed now; it is optional.
        _write(file, _COMPATIBLE_AT, _U32.pack(head[2] & ~_HAS_CHECKSUM))
        _write(file, _CHECKSUM_AT, _U32.pack(0))


def _read(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)


def _write(file: BinaryIO, at: int, data: bytes) -> None:
    file.seek(at)
    file.write(data)


def _inode(file: BinaryIO, at: int) -> tuple[int, int, int, int]:
    """Format, size in bytes, block of the data, and size of the inode itself."""
    raw = _read(file, at, _EXTENDED_SIZE)
    kind = _INODE.unpack_from(raw)[0]
    extended = kind & _IS_EXTENDED
    (size,) = (_U64 if extended else _U32).unpack_from(raw, _SIZE_AT)
    (block,) = _U32.unpack_from(raw, _BLOCK_AT)
    return kind, size, block, _EXTENDED_SIZE if extended else _INODE_SIZE


def _write_inode(file: BinaryIO, at: int, size: int, block: int, path: str) -> None:
    kind, old_size, _, _ = _inode(file, at)
    if old_size:
        raise HostError(f"mkfs.erofs: {path} has {old_size} bytes in the image, none expected")
    _write(file, at, _U16.pack(kind & ~_LAYOUT_MASK))
    _write(file, at + _SIZE_AT, (_U64 if kind & _IS_EXTENDED else _U32).pack(size))
    _write(file, at + _BLOCK_AT, _U32.pack(block))


def _find(file: BinaryIO, meta: int, root: int, path: str) -> int:
    nid = root
    for part in path.encode(errors="surrogateescape").strip(b"/").split(b"/"):
        found = _entries(file, meta + _INODE_SIZE * nid).get(part)
        if found is None:
            raise HostError(f"mkfs.erofs: {path} is not in the image")
        nid = found
    return nid


def _entries(file: BinaryIO, at: int) -> dict[bytes, int]:
    """What a folder has: names and numbers of inodes.  Each block has its own names."""
    kind, size, block, inode_size = _inode(file, at)
    found: dict[bytes, int] = {}
    for start in range(0, size, BLOCK_SIZE):
        length = min(BLOCK_SIZE, size - start)
        is_inline = kind & _LAYOUT_MASK == _INLINE and length < BLOCK_SIZE
        data = _read(file, at + inode_size if is_inline else block * BLOCK_SIZE + start, length)
        count = _ENTRY.unpack_from(data)[1] // _ENTRY.size
        raw = [_ENTRY.unpack_from(data, n * _ENTRY.size) for n in range(count)]
        ends = [name_at for _, name_at, _, _ in raw[1:]] + [length]
        for (nid, name_at, _, _), name_end in zip(raw, ends, strict=True):
            found[data[name_at:name_end].rstrip(b"\0")] = nid
    return found
