"""The root file system: EROFS, uncompressed, every file in whole pages so that it can be mapped.

Made by Debian's mkfs.erofs; the same tree makes the same bytes.  The on-disk format is that of
Linux' fs/erofs/erofs_fs.h.
"""

from __future__ import annotations

import os
from pathlib import Path
from struct import Struct

from pyrovm.errors import ConfigError, HostError
from pyrovm.guest import programs
from pyrovm.image import large_files

BLOCK_SIZE = 4096
MAGIC = 0xE0F5E1E2
SUPERBLOCK_AT = 1024
SUPERBLOCK_SIZE = 128
_UUID = "70797265-0000-4000-8000-65726f667300"  # any: the same every time
# magic, checksum, compatible features, block bits, extension slots, root nid, inodes, build time
# and its ns, blocks, meta and xattr block, uuid, volume name, incompatible features
_SUPERBLOCK = Struct("<IIIBBHQQIIII16s16sI")


def make(image: Path, folder: Path) -> None:
    """Make an EROFS image of a folder's contents; all belongs to root, all times are zero.

    Large programs are moved out of the folder, and lie at multiples of 2 MiB of the image.

    Raises:
        Unsupported: mkfs.erofs is missing.
        HostError: it failed.
    """
    (mkfs,) = programs.require("mkfs.erofs")
    options = ["--quiet", "-x-1", "-T0", "-U", _UUID, "--all-root", "-Enoinline_data"]
    large = large_files.take_out(folder, image.parent)
    programs.run(mkfs, *options, image, folder)
    large_files.put_back(image, large)
    for moved in large.values():
        moved.unlink()
    try:
        with open(image, "rb") as file:
            check(file.read(SUPERBLOCK_AT + SUPERBLOCK_SIZE), os.fstat(file.fileno()).st_size)
    except ConfigError as error:
        raise HostError(f"{mkfs} made no usable image: {error}") from None


def check(head: bytes, file_size: int) -> None:
    """Look at an image's superblock: ``head`` is its beginning.

    Raises:
        ConfigError: it is no EROFS image, is truncated, or uses features we do not map.
    """
    if len(head) < SUPERBLOCK_AT + SUPERBLOCK_SIZE:
        raise ConfigError(f"no EROFS image: only {len(head)} bytes")
    fields = _SUPERBLOCK.unpack_from(head, SUPERBLOCK_AT)
    magic, block_bits, blocks, incompatible = fields[0], fields[3], fields[9], fields[14]
    if magic != MAGIC:
        raise ConfigError(f"no EROFS image: magic {magic:#x}, {MAGIC:#x} expected")
    if 1 << block_bits != BLOCK_SIZE:
        raise ConfigError(f"EROFS blocks of 2^{block_bits} bytes, {BLOCK_SIZE} expected")
    if incompatible:
        raise ConfigError(f"EROFS with features {incompatible:#x} (compressed?), none are allowed")
    if blocks * BLOCK_SIZE != file_size:
        raise ConfigError(f"EROFS image of {blocks} blocks in a file of {file_size} bytes")
