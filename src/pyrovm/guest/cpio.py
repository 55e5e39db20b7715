"""cpio archives in the "newc" form, which Linux unpacks as its first root file system.

Format: Documentation/driver-api/early-userspace/buffer-format.rst.  What is written is a function
of the entries alone: no times, no owners, inode numbers by position.
"""

from __future__ import annotations

import dataclasses
import stat
from collections.abc import Iterable, Iterator

from pyrovm.errors import ConfigError

MAGIC = b"070701"
HEADER_SIZE = 110
TRAILER = "TRAILER!!!"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One file: ``name`` without a leading slash, ``mode`` with the type bits of ``st_mode``."""

    name: str
    mode: int
    data: bytes = b""  # a link's target, too
    device: tuple[int, int] = (0, 0)  # major, minor of a device node

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)


def pack(entries: Iterable[Entry]) -> bytes:
    """The archive of ``entries``, in their order; folders must come before what is in them."""
    out = bytearray()
    for number, entry in enumerate([*entries, Entry(TRAILER, 0)], 1):
        name = entry.name.encode() + b"\0"
        fields = (
            number,
            entry.mode,
            0,  # uid
            0,  # gid
            2 if entry.is_dir else 1,  # links
            0,  # mtime
            len(entry.data),
            0,  # device the archive was made on: major, minor
            0,
            *entry.device,
            len(name),
            0,  # checksum: not in this form
        )
        out += MAGIC + b"".join(b"%08X" % field for field in fields) + name
        out += bytes(-len(out) % 4)
        out += entry.data
        out += bytes(-len(out) % 4)
    return bytes(out)


def unpack(archive: bytes) -> Iterator[Entry]:
    """The entries of an uncompressed archive, up to its trailer.

    Raises:
        ConfigError: it is no newc archive, or it is cut short.
    """
    at = 0
    while True:
        header = archive[at : at + HEADER_SIZE]
        if len(header) < HEADER_SIZE or not header.startswith(MAGIC):
            raise ConfigError(f"no newc header at byte {at} of {len(archive)}")
        try:
            field = [int(header[n : n + 8], 16) for n in range(6, HEADER_SIZE, 8)]
        except ValueError:
            raise ConfigError(f"a field of the header at byte {at} is not hexadecimal") from None
        mode, size, name_size = field[1], field[6], field[11]
        name_end = at + HEADER_SIZE + name_size
        data_at = name_end + -name_end % 4
        data_end = data_at + size
        if data_end > len(archive) or not name_size:
            raise ConfigError(f"the archive ends inside the entry at byte {at}")
        name = archive[at + HEADER_SIZE : name_end - 1].decode(errors="surrogateescape")
        if name == TRAILER:
            return
        yield Entry(name, mode, archive[data_at:data_end], (field[9], field[10]))
        at = data_end + -data_end % 4
