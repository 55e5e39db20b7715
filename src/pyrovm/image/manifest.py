"""An image's manifest: what to run, what is in the image and why.  Its hash is the image's name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from pyrovm.errors import ConfigError
from pyrovm.image import index

SCHEMA = 1
MAX_BYTES = 64 << 20
MAX_ROOT_BYTES = (8 << 30) - 1  # what a plain tar header can say
_NAME = "abcdefghijklmnopqrstuvwxyz0123456789._-"
MAX_NAME = 128


class ManifestError(ConfigError):
    """It is no manifest of ours, or a damaged one."""


@dataclasses.dataclass(frozen=True)
class File:
    """One file of the image."""

    size_bytes: int
    why: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """All of it; two equal manifests have one digest."""

    name: str
    exe: str  # absolute path in the image, no links in it
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    root_sha256: str
    root_size_bytes: int
    files: Mapping[str, File]
    remarks: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """The one form in which it is written: sorted keys, no spaces, ASCII."""
        record = {
            "schema": SCHEMA,
            "name": self.name,
            "exe": self.exe,
            "argv": self.argv,
            "env": dict(self.env),
            "cwd": self.cwd,
            "root": {"sha256": self.root_sha256, "size_bytes": self.root_size_bytes},
            "files": {path: [file.size_bytes, file.why] for path, file in self.files.items()},
            "remarks": self.remarks,
        }
        return json.dumps(record, sort_keys=True, separators=(",", ":")).encode("ascii") + b"\n"

    @property
    def digest(self) -> str:
        """SHA-256 of the written form, 64 hexadecimal digits."""
        return digest(self.encode())


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def check_name(name: str) -> str:
    """``name`` itself, if images may be called so.

    Raises:
        ConfigError: it has other characters, is too long, or would be taken for a digest.
    """
    if not name or len(name) > MAX_NAME or name.strip(_NAME) or not name[0].isalnum():
        raise ConfigError(
            f"image name {name!r}: 1 to {MAX_NAME} of a-z 0-9 . _ - allowed, "
            "the first a letter or digit"
        )
    if index.is_digest(name):
        raise ConfigError(f"image name {name!r}: looks like a digest")
    return name


def parse(data: bytes) -> Manifest:
    """Check a manifest that comes from anywhere.

    Raises:
        ManifestError: it is not in the form that :meth:`Manifest.encode` writes.
    """
    if len(data) > MAX_BYTES:
        raise ManifestError(f"manifest of {len(data)} bytes, {MAX_BYTES} allowed")
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        raise ManifestError("manifest is no JSON") from None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        found = record.get("schema") if isinstance(record, dict) else None
        raise ManifestError(f"manifest of schema {found!r}, {SCHEMA} expected")
    root = _field(record, "root", dict)
    files = {
        _path(path, "files"): _file(path, value)
        for path, value in _field(record, "files", dict).items()
    }
    env = {
        _word(name, "env"): _word(value, "env")
        for name, value in _field(record, "env", dict).items()
    }
    if any(not name or "=" in name for name in env):
        raise ManifestError("manifest: env has a name that is empty or contains '='")
    argv = tuple(_word(word, "argv") for word in _field(record, "argv", list))
    if not argv:
        raise ManifestError("manifest: argv is empty")
    try:
        name = check_name(_field(record, "name", str))
    except ManifestError:
        raise
    except ConfigError as error:
        raise ManifestError(f"manifest: {error}") from None
    manifest = Manifest(
        name=name,
        exe=_path(_field(record, "exe", str), "exe"),
        argv=argv,
        env=env,
        cwd=_path(_field(record, "cwd", str), "cwd"),
        root_sha256=_field(root, "sha256", str),
        root_size_bytes=_field(root, "size_bytes", int),
        files=files,
        remarks=tuple(_word(text, "remarks") for text in _field(record, "remarks", list)),
    )
    if not index.is_digest(manifest.root_sha256):
        raise ManifestError(f"manifest: root.sha256 is {manifest.root_sha256[:80]!r}")
    if not 0 < manifest.root_size_bytes <= MAX_ROOT_BYTES:
        raise ManifestError(
            f"manifest: root.size_bytes is {manifest.root_size_bytes}, "
            f"1 to {MAX_ROOT_BYTES} allowed"
        )
    if manifest.encode() != data:
        raise ManifestError("manifest is not in its canonical form")
    return manifest


def _field(record: dict[str, Any], name: str, kind: type) -> Any:
    value = record.get(name)
    if type(value) is not kind:
        raise ManifestError(f"manifest: {name} is {value!r:.80}, a {kind.__name__} expected")
    return value


def _word(value: object, name: str) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ManifestError(f"manifest: {name} has {value!r:.80}, a string without NUL expected")
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        raise ManifestError(f"manifest: {name} has {value!r:.80}, which is no text") from None
    return value


def _path(value: object, name: str) -> str:
    path = _word(value, name)
    if not path.startswith("/") or any(part in ("..", ".") for part in path.split("/")):
        raise ManifestError(f"manifest: {name} has {path!r:.80}, an absolute path expected")
    return path


def _file(path: str, value: object) -> File:
    if (
        not isinstance(value, list)
        or len(value) != 2
        or type(value[0]) is not int
        or value[0] < 0
        or not isinstance(value[1], str)
    ):
        raise ManifestError(f"manifest: files has {value!r:.80} for {path!r:.80}")
    return File(value[0], value[1])
