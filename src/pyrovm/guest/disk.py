"""ext4 images from folders, and files out of them, without root and without mounting."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pyrovm.errors import ConfigError
from pyrovm.guest import cache, programs

MIB = 1 << 20
_UUID = "70797265-0000-4000-8000-657874340000"  # any: the same every time
_EPOCH = 1_600_000_000  # seconds; what a reproducible image has for all times
_BASE_FEATURES = "^resize_inode,^metadata_csum"


def make_ext4(
    image: Path,
    folder: Path | None = None,
    *,
    size_bytes: int | None = None,
    journal: bool = False,
    inodes: int | None = None,
    label: str = "",
    reproducible: bool = False,
) -> None:
    """Make an ext4 image of ``folder``'s contents (or an empty one); the file is sparse.

    Args:
        size_bytes: the image's size; by default what the contents need and a quarter, at least
            16 MiB.
        inodes: how many files it can hold; by default mke2fs chooses by size.
        reproducible: everything belongs to root and all times are one fixed time, so that the
            same contents make the same image.  Costs some milliseconds for each hundred files.
    """
    (mke2fs,) = programs.require("mke2fs")
    if size_bytes is None:
        used = cache.size_on_disk(folder) if folder else 0
        size_bytes = (max(16 * MIB, used * 5 // 4 + 8 * MIB) + MIB - 1) // MIB * MIB
    with open(image, "wb") as file:
        file.truncate(size_bytes)
    features = _BASE_FEATURES if journal else f"^has_journal,{_BASE_FEATURES}"
    extended = f"lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0,nodiscard,hash_seed={_UUID}"
    argv = ["-q", "-F", "-t", "ext4", "-O", features, "-E", extended, "-m", "0", "-U", _UUID]
    if label:
        argv += ["-L", label]
    if inodes:
        argv += ["-N", str(inodes)]
    if folder:
        argv += ["-d", str(folder)]
    fixed = {"E2FSPROGS_FAKE_TIME": str(_EPOCH)} if reproducible else {}
    programs.run(mke2fs, *argv, image, env=fixed)
    if reproducible and folder:
        _normalise(image, folder, fixed)


def _normalise(image: Path, folder: Path, env: Mapping[str, str]) -> None:
    """Give every file to root and set its times; mke2fs takes both over from the folder."""
    commands = []
    for top, names, files in os.walk(folder):
        for name in [*names, *files]:
            inside = "/" + os.path.relpath(os.path.join(top, name), folder)
            if '"' in inside or "\n" in inside:
                raise ConfigError(f"{inside!r}: debugfs cannot name such a file")
            for field, value in (("uid", "0"), ("gid", "0")):
                commands.append(f'set_inode_field "{inside}" {field} {value}')
            for field in ("atime", "ctime", "mtime", "crtime"):
                commands.append(f'set_inode_field "{inside}" {field} @{_EPOCH}')
                commands.append(f'set_inode_field "{inside}" {field}_extra 0')
    (debugfs,) = programs.require("debugfs")
    script = "\n".join(commands) + "\n"
    programs.run(debugfs, "-w", "-f", "-", image, stdin=script.encode(), env=env)


def remove_lost_and_found(image: Path) -> None:
    """Remove the folder that mke2fs puts into every image, for those that are only read."""
    (debugfs,) = programs.require("debugfs")
    programs.run(debugfs, "-w", "-R", "rmdir /lost+found", image)


def read_file(image: Path, path: str) -> bytes:
    """A regular file's contents out of an ext2, ext3 or ext4 image; links are not followed.

    Raises:
        ConfigError: there is no such regular file in the image.
    """
    (debugfs,) = programs.require("debugfs")
    if not path.startswith("/") or '"' in path or "\n" in path:
        raise ConfigError(f"{path!r}: an absolute path without quotes is needed")
    with cache.scratch(cache.folder("tmp")) as folder:
        target = folder / "file"
        script = f'stat "{path}"\ndump "{path}" "{target}"\n'
        # debugfs ends with 0 whatever happens: look at what it says
        said = programs.run(debugfs, "-f", "-", image, stdin=script.encode())
        if b"Type: regular" not in said or not target.exists():
            raise ConfigError(f"no regular file {path} in {image}")
        return target.read_bytes()


def read_tree(image: Path, path: str, into: Path) -> None:
    """Copy a folder of an image into the existing folder ``into``."""
    (debugfs,) = programs.require("debugfs")
    programs.run(debugfs, "-R", f'rdump "{path}" "{into}"', image)
