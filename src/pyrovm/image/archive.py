"""An image as one file: a tar with ``manifest.json`` and ``root.erofs``, nothing else.

Any tar program can look into it.  Reading is strict: plain ustar headers, these two regular files
in this order, sizes and digests as promised, so nothing that a hostile file says is ever a path.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable
from typing import BinaryIO, Protocol

from pyrovm.errors import ConfigError
from pyrovm.image import erofs, manifest
from pyrovm.image.index import MANIFEST, ROOT

BLOCK = 512
_RECORD = 20 * BLOCK  # tar files are padded to it
CHUNK = 2 << 20  # written at once: see store.take_root


class Readable(Protocol):
    """What an archive is read from."""

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes; none at the end."""


class ArchiveError(ConfigError):
    """The file is no exported image, or a damaged one."""


def write(file: BinaryIO, manifest_data: bytes, root: BinaryIO, root_size: int) -> None:
    """Write an image; the same image makes the same bytes."""
    file.write(_header(MANIFEST, len(manifest_data)) + manifest_data)
    file.write(bytes(-len(manifest_data) % BLOCK))
    file.write(_header(ROOT, root_size))
    _copy(root, file.write, root_size, ROOT)
    file.write(bytes(-root_size % BLOCK))
    written = sum(BLOCK + (n + -n % BLOCK) for n in (len(manifest_data), root_size))
    file.write(bytes(2 * BLOCK + -(written + 2 * BLOCK) % _RECORD))


def read(file: Readable, write_root: Callable[[bytes], object]) -> bytes:
    """Check an archive while its root goes to ``write_root``; the manifest as it was written.

    Raises:
        ArchiveError: it is not ours, truncated, or its contents are not what its digests say.
        ManifestError: its manifest is none.
    """
    size = _member(file, MANIFEST, manifest.MAX_BYTES)
    data = _exactly(file, size, MANIFEST)
    _exactly(file, -size % BLOCK, MANIFEST)
    promised = manifest.parse(data)
    size = _member(file, ROOT, manifest.MAX_ROOT_BYTES)
    if size != promised.root_size_bytes:
        raise ArchiveError(f"{ROOT} of {size} bytes, its manifest says {promised.root_size_bytes}")
    found = hashlib.sha256()
    head = bytearray()

    def take(chunk: bytes) -> None:
        if len(head) < BLOCK * 8:
            head.extend(chunk[: BLOCK * 8])
        found.update(chunk)
        write_root(chunk)

    _copy(file, take, size, ROOT)
    if found.hexdigest() != promised.root_sha256:
        raise ArchiveError(
            f"{ROOT} has digest {found.hexdigest()}, its manifest says {promised.root_sha256}"
        )
    erofs.check(bytes(head), size)
    _end(file)
    return data


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o644, 0
    return member.tobuf(tarfile.USTAR_FORMAT)


def _member(file: Readable, name: str, limit: int) -> int:
    """The size of the next member, which must be the regular file ``name``."""
    header = _exactly(file, BLOCK, "the archive")
    try:
        member = tarfile.TarInfo.frombuf(header, "ascii", "replace")
    except tarfile.HeaderError as error:
        raise ArchiveError(f"no exported image: {error}, where {name} belongs") from None
    if member.name != name or member.type != tarfile.REGTYPE:
        raise ArchiveError(
            f"no exported image: it has {member.name[:80]!r}, where the regular file {name} belongs"
        )
    if not 0 < member.size <= limit:
        raise ArchiveError(f"{name} of {member.size} bytes, 1 to {limit} allowed")
    return member.size


def _end(file: Readable) -> None:
    left = 2 * _RECORD
    while left and (chunk := file.read(left)):
        if chunk.strip(b"\0"):
            raise ArchiveError(f"no exported image: there is more behind {ROOT}")
        left -= len(chunk)
    if not left:
        raise ArchiveError(f"no exported image: there is more behind {ROOT}")


def _exactly(file: Readable, size: int, what: str) -> bytes:
    parts: list[bytes] = []
    _copy(file, parts.append, size, what)
    return b"".join(parts)


def _copy(file: Readable, write: Callable[[bytes], object], size: int, what: str) -> None:
    left = size
    while left:
        chunk = file.read(min(left, CHUNK))
        if not chunk:
            raise ArchiveError(f"the archive ends {left} bytes before the end of {what}")
        write(chunk)
        left -= len(chunk)
