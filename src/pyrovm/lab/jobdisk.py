"""The disks of one session: the command's files going in, its output coming out, its assets."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from pyrovm.errors import ConfigError
from pyrovm.guest import cache, disk
from pyrovm.lab import bytecode

# Fixed: the snapshot of a machine fits only disks of these sizes.  The files are sparse.
JOB_BYTES = 4 << 30
ASSETS_BYTES = 16 << 30

_ASSET_DISKS_KEPT = 8

# Folders that no command in the lab wants and that are large, or belong to this machine.
SKIPPED = frozenset(
    {
        *(".git", ".venv", ".hypothesis", "__pycache__"),
        *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".import_linter_cache"),
    }
)

Tree = Path | Mapping[str, Path | bytes]


@dataclasses.dataclass(frozen=True)
class Disks:
    """The disks of a session."""

    job: Path
    assets: Path


def make_disks(
    scratch: Path,
    tree: Tree | None = None,
    skip: Collection[str] = (),
    assets: Mapping[str, Path] | None = None,
) -> Disks:
    """Make the disks of a session, in ``scratch`` but for assets, whose disk is kept."""
    disks = Disks(scratch / "job.ext4", asset_disk(assets) if assets else scratch / "assets")
    make_job_disk(disks.job, scratch, tree, skip)
    if not assets:
        empty_disk(disks.assets, ASSETS_BYTES)
    return disks


def make_job_disk(image: Path, scratch: Path, tree: Tree | None, skip: Collection[str]) -> None:
    """Make the disk that the lab mounts at /job: ``tree`` and an empty ``out``."""
    top = scratch / "job"
    for name in ("out", "assets", "tree"):
        (top / name).mkdir(parents=True)
    if isinstance(tree, Path):
        _copy(tree, top / "tree", SKIPPED.union(skip))
    elif tree:
        for name, source in tree.items():
            target = top / "tree" / _relative(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, bytes):
                target.write_bytes(source)
            else:
                _copy(source, target, SKIPPED.union(skip))
    bytecode.compile_tree(top / "tree")
    disk.make_ext4(image, top, size_bytes=JOB_BYTES, inodes=1 << 16)
    shutil.rmtree(top)


def empty_disk(image: Path, size_bytes: int) -> None:
    """A disk with nothing on it."""
    with open(image, "wb") as file:
        file.truncate(size_bytes)


def read_output(image: Path, scratch: Path) -> Path:
    """Copy /job/out from the disk to a folder in ``scratch``; that folder."""
    into = scratch / "output"
    into.mkdir()
    disk.read_tree(image, "/out", into)
    return into / "out"


def asset_disk(assets: Mapping[str, Path]) -> Path:
    """The disk that the lab mounts at /job/assets, with each file or folder under its name.

    It is made once for the same files: what they are is told by path, size and time of change.

    Raises:
        ConfigError: a file is not there.
    """
    key = hashlib.sha256()
    used = 0
    for name, source in sorted(assets.items()):
        if not source.exists():
            raise ConfigError(f"asset {name}: no file {source}")
        key.update(f"{_relative(name)}\0{source.resolve()}\0".encode())
        for path in sorted([source, *source.rglob("*")] if source.is_dir() else [source]):
            status = path.lstat()
            key.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
            used += status.st_blocks * 512
    store = cache.folder("lab", "assets")
    image = store / f"{key.hexdigest()[:24]}.ext4"
    with cache.locked(store / f".{image.stem}"):
        if not image.exists():
            _make_asset_disk(image, store, assets, used)
    cache.touch(image)
    for old in cache.oldest_first(store.glob("*.ext4"))[:-_ASSET_DISKS_KEPT]:
        old.unlink(missing_ok=True)  # a QEMU that has it open keeps it
        (store / f".{old.stem}").unlink(missing_ok=True)
    return image


def _make_asset_disk(image: Path, store: Path, assets: Mapping[str, Path], used: int) -> None:
    with cache.scratch(store) as scratch:
        top = scratch / "assets"
        top.mkdir()
        for name, source in assets.items():
            target = top / _relative(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(source, target, ())
        size = used * 9 // 8 + (64 << 20)
        if size > ASSETS_BYTES:
            raise ConfigError(f"assets of {used} bytes: at most {ASSETS_BYTES} fit the lab's disk")
        made = scratch / "image"
        disk.make_ext4(made, top, size_bytes=size)
        disk.remove_lost_and_found(made)
        os.truncate(made, ASSETS_BYTES)
        made.rename(image)


def _copy(source: Path, target: Path, skip: Collection[str]) -> None:
    if not source.is_dir():
        shutil.copy2(source, target)
        return
    target.mkdir(parents=True, exist_ok=True)
    ignore = shutil.ignore_patterns(*skip) if skip else None
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=ignore)


def _relative(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ConfigError(f"{name!r}: a path relative to the tree, without .., is needed")
    return path
