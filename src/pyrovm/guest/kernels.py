"""The guest kernels of this machine: folders below ``kernels`` in the cache.

Each folder holds what was fetched or built (``vmlinux``, ``bzImage``, ``config``, ``modules``)
and ``kernel.json``, which is written last: a folder without it does not count.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from pathlib import Path

from pyrovm.errors import ConfigError
from pyrovm.guest import cache
from pyrovm.guest.kernel_config import FLAVOURS
from pyrovm.guest.modules import ModuleTree

RECORD = "kernel.json"
ALIASES = {"lean": "full", "cloud": "debian"}


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One kernel of the cache."""

    name: str  # of its folder
    flavour: str  # what to ask for: debian, full, serverless
    release: str  # as uname -r says
    source: str  # the Debian package and version that it comes from
    key: str  # hash of what determines it
    made: float  # seconds since the epoch

    @property
    def folder(self) -> Path:
        return home() / self.name

    @property
    def vmlinux(self) -> Path:
        """The uncompressed kernel, an ELF file: what starts fastest."""
        return self.folder / "vmlinux"

    @property
    def bzimage(self) -> Path:
        """The compressed kernel, as a boot loader wants it."""
        return self.folder / "bzImage"

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def modules(self) -> ModuleTree | None:
        """The modules, or None where everything is built in."""
        tree = self.folder / "modules"
        return ModuleTree(tree) if tree.is_dir() else None


def home() -> Path:
    """The folder of all kernels."""
    return cache.folder("kernels")


def installed() -> list[Kernel]:
    """All kernels, the latest first."""
    kernels = []
    for record in home().glob(f"*/{RECORD}"):
        try:
            kernels.append(Kernel(name=record.parent.name, **json.loads(record.read_text())))
        except (ValueError, TypeError, FileNotFoundError):
            continue  # of another version of pyrovm, or being removed: as if it were not there
    return sorted(kernels, key=lambda kernel: kernel.made, reverse=True)


def find(name: str) -> Kernel | None:
    """The kernel of that name, or else the latest of that flavour ("lean" is "full")."""
    kernels = installed()
    flavour = ALIASES.get(name, name)
    for kernel in kernels:
        if kernel.name == name:
            return kernel
    return next((kernel for kernel in kernels if kernel.flavour == flavour), None)


def get(name: str) -> Kernel:
    """As :func:`find`.

    Raises:
        ConfigError: there is none; the message says how to get one.
    """
    kernel = find(name)
    if kernel is None:
        have = ", ".join(k.name for k in installed()) or "none"
        flavour = ALIASES.get(name, name)
        how = f"build {flavour}" if flavour in FLAVOURS else "fetch"
        raise ConfigError(f"no kernel {name!r} (there are: {have}); try: pyrovm kernel {how}")
    return kernel


def add(files: Path, name: str, *, flavour: str, release: str, source: str, key: str) -> Kernel:
    """Take over the folder ``files``, which is in the cache, as a kernel; an older one goes."""
    kernel = Kernel(name, flavour, release, source, key, time.time())
    record = {k: v for k, v in dataclasses.asdict(kernel).items() if k != "name"}
    (files / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    with cache.locked(home() / cache.LOCK_NAME):
        cache.remove(kernel.folder)
        files.rename(kernel.folder)
    return kernel


def remove(name: str) -> Kernel:
    """Remove a kernel by its name or flavour.

    Raises:
        ConfigError: there is none.
    """
    kernel = get(name)
    (kernel.folder / RECORD).unlink(missing_ok=True)
    shutil.rmtree(kernel.folder, ignore_errors=True)
    return kernel
