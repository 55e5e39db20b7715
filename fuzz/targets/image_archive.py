"""Exported images: an untrusted tar with a manifest and a file system."""

from __future__ import annotations

import io

from pyrovm.errors import ConfigError
from pyrovm.image import archive, erofs, manifest
from pyrovm.image.manifest import File, Manifest


def one_input(data: bytes) -> None:
    """Either a named error, or a canonical manifest and the very root that it promises."""
    taken = io.BytesIO()
    try:
        described = archive.read(io.BytesIO(data), taken.write)
    except ConfigError:
        assert len(taken.getvalue()) <= len(data)
        _manifest(data)
        return
    found = manifest.parse(described)
    assert found.encode() == described
    assert manifest.digest(taken.getvalue()) == found.root_sha256
    assert len(taken.getvalue()) == found.root_size_bytes


def _manifest(data: bytes) -> None:
    """The same bytes as a manifest alone, where a digest does not stand before every mistake."""
    try:
        found = manifest.parse(data)
    except ConfigError:
        return
    assert found.encode() == data
    for path in (found.exe, found.cwd, *found.files):
        assert path.startswith("/")
        assert ".." not in path.split("/")
    assert found.argv


def _root() -> bytes:
    fields = (erofs.MAGIC, 0, 0, 12, 0, 36, 1, 0, 0, 1, 0, 0, bytes(16), bytes(16), 0)
    return (bytes(1024) + erofs._SUPERBLOCK.pack(*fields)).ljust(4096, b"\0")


def _archive() -> bytes:
    file = io.BytesIO()
    archive.write(file, _described(), io.BytesIO(_root()), 4096)
    return file.getvalue()


def _described() -> bytes:
    return Manifest(
        name="x",
        exe="/x",
        argv=("x", "-a"),
        env={"PATH": "/bin"},
        cwd="/",
        root_sha256=manifest.digest(_root()),
        root_size_bytes=4096,
        files={"/x": File(1, "why")},
        remarks=("remark",),
    ).encode()


SEEDS = [_archive(), _described(), _described().replace(b'"/x"', b'"/../x"')]
WORDS = [b'"schema":1', b'"argv":[]', b"/..", b"\\u0000", b"\\ud800", b"ustar\x0000", b"root.erofs"]
