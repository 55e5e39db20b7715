"""The images of this machine: folders of the cache, named by digest, some also by name."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import secrets
import time
from pathlib import Path
from typing import BinaryIO

from pyrovm.errors import ConfigError, HostError
from pyrovm.guest import cache
from pyrovm.image import archive, erofs, index, manifest
from pyrovm.image.manifest import Manifest


@dataclasses.dataclass(frozen=True)
class Image:
    """An image of the cache."""

    digest: str
    manifest: Manifest

    @classmethod
    def load(cls, word: str) -> Image:
        """The image with this name, digest or beginning of a digest.

        Raises:
            ConfigError: there is none, or several begin so.
            HostError: its manifest is not what its digest says.
        """
        found = index.named(word)
        if found is None:
            raise ConfigError(f"no image {word!r}; those that are here: pyrovm image list")
        return _read(found.digest)

    @property
    def folder(self) -> Path:
        return Path(index.folder_of(self.digest))

    @property
    def root(self) -> Path:
        """The EROFS image."""
        return self.folder / index.ROOT

    @property
    def entry(self) -> index.Entry:
        """What a VM needs to know of it."""
        return _entry(self.digest, self.manifest)

    @property
    def names(self) -> list[str]:
        """By which it is known here."""
        return sorted(name for name, digest in names().items() if digest == self.digest)

    def verify(self) -> None:
        """Read the root and compare it with the digest.

        Raises:
            HostError: it is damaged.
        """
        found = hashlib.sha256()
        with open(self.root, "rb") as file:
            while chunk := file.read(1 << 20):
                found.update(chunk)
        if found.hexdigest() != self.manifest.root_sha256:
            raise HostError(
                f"{self.root}: damaged, its digest is {found.hexdigest()}, "
                f"not {self.manifest.root_sha256}; pyrovm image remove {self.digest[:12]}"
            )


def home() -> Path:
    """The folder of all images; it exists."""
    return cache.folder("images")


def names() -> dict[str, str]:
    """Name -> digest."""
    found = {}
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(home() / "names")):
            if not name.startswith("."):
                found[name] = os.path.basename(os.readlink(home() / "names" / name))
    return found


def installed() -> list[Image]:
    """All images, those used last at the end."""
    folders = [path for path in home().iterdir() if index.is_digest(path.name)]
    found = []
    for path in cache.oldest_first(folders):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile, or being made
            found.append(_read(path.name))
    return found


def add(made: Path, described: Manifest, name: str | None) -> Image:
    """Take over the file ``root.erofs`` of the scratch folder ``made``; ``name`` it, if given."""
    digest = described.digest
    image = Image(digest, described)
    if not image.folder.is_dir():
        ready = made / digest
        ready.mkdir()
        (ready / index.MANIFEST).write_bytes(described.encode())
        (ready / index.ENTRY).write_bytes(index.encode_entry(image.entry))
        os.replace(made / index.ROOT, ready / index.ROOT)
        try:
            os.rename(ready, image.folder)
        except OSError:
            if not image.folder.is_dir():  # else another process made the same just now
                raise
    if name is not None:
        set_name(manifest.check_name(name), digest)
    return image


def set_name(name: str, digest: str) -> None:
    """Let ``name`` stand for an image; another one that had it loses it."""
    folder = cache.folder("images", "names")
    temporary = folder / f".{secrets.token_hex(4)}"
    os.symlink(f"../{digest}", temporary)
    os.replace(temporary, folder / name)


def remove(word: str) -> str:
    """Remove an image and its names; VMs that run from it keep it until they end.  Its digest.

    Raises:
        ConfigError: there is none of that name or digest.
    """
    found = index.named(word)
    if found is None:
        raise ConfigError(f"no image {word!r}; those that are here: pyrovm image list")
    for name, digest in names().items():
        if digest == found.digest:
            (home() / "names" / name).unlink(missing_ok=True)
    remove_folder(found.digest)
    return found.digest


def remove_folder(digest: str) -> None:
    """Remove an image's folder at once, unless another process just did."""
    with cache.scratch(home()) as folder, contextlib.suppress(FileNotFoundError):
        os.rename(index.folder_of(digest), folder / digest)


def prune(min_age_s: float = 0) -> list[str]:
    """Remove the images without a name that no program is started from any more; their digests.

    ``min_age_s`` (seconds) spares those that were made only now.
    """
    index.forget_stale()
    wanted = set(names().values()) | set(index.current())
    removed = []
    for path in sorted(home().iterdir()):
        if not index.is_digest(path.name) or path.name in wanted:
            continue
        with contextlib.suppress(FileNotFoundError):  # another process removes it too
            if time.time() - path.stat().st_mtime >= min_age_s:
                remove_folder(path.name)
                removed.append(path.name)
    return removed


def export(word: str, file: BinaryIO) -> Image:
    """Write an image to ``file``, as :func:`import_` reads it."""
    image = Image.load(word)
    with open(image.root, "rb") as root:
        archive.write(file, image.manifest.encode(), root, image.manifest.root_size_bytes)
    return image


def import_(file: archive.Readable, name: str | None = None) -> Image:
    """Take in an exported image, by default under the name that it brings.

    Raises:
        ConfigError: it is no such file or a damaged one.
    """
    with cache.scratch(home()) as folder:
        with open(folder / index.ROOT, "xb") as root:
            described = manifest.parse(archive.read(file, root.write))
        return add(folder, described, described.name if name is None else name)


def take_root(made: Path, root: Path) -> tuple[str, int]:
    """Move a root image that was just ``made`` to ``root``; its SHA-256 and size.

    It is written anew, for the sake of the page cache: a file system with large folios keeps what
    is written in pieces of 2 MiB as such, and VMs can map it so, with fewer page faults.

    Raises:
        ConfigError: it is larger than an image may be.
    """
    size = made.stat().st_size
    if size > manifest.MAX_ROOT_BYTES:
        raise ConfigError(f"root of {size} bytes, {manifest.MAX_ROOT_BYTES} allowed")
    found = hashlib.sha256()
    with open(made, "rb") as source, open(root, "xb") as target:
        erofs.check(source.read(erofs.BLOCK_SIZE), size)
        source.seek(0)
        while chunk := source.read(archive.CHUNK):
            found.update(chunk)
            target.write(chunk)
    made.unlink()
    return found.hexdigest(), size


def _entry(digest: str, described: Manifest) -> index.Entry:
    return index.Entry(
        digest,
        index.folder_of(digest),
        described.exe,
        described.argv,
        tuple(sorted(described.env.items())),
        described.cwd,
    )


def _read(digest: str) -> Image:
    path = Path(index.folder_of(digest), index.MANIFEST)
    data = path.read_bytes()
    if manifest.digest(data) != digest:
        raise HostError(f"{path}: damaged; pyrovm image remove {digest[:12]}")
    return Image(digest, manifest.parse(data))
