"""Debian's cloud kernel as a guest kernel, straight from its package."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pyrovm.errors import HostError
from pyrovm.guest import cache, debian, kernels, payload
from pyrovm.guest.kernels import Kernel
from pyrovm.guest.progress import Progress, Silent

META_PACKAGE = "linux-image-cloud-amd64"
FLAVOUR = "debian"
_LAYOUT = 1  # of the folder that _arrange makes; part of the key

# Modules of things that neither a microVM nor the lab has.
_UNUSED = frozenset(
    {"bluetooth", "gpu", "iio", "infiniband", "isdn", "media", "sound", "usb", "wireless"}
)


def latest() -> debian.Package:
    """The package that holds Debian's current cloud kernel."""
    meta = debian.show([META_PACKAGE])[META_PACKAGE]
    name = next((name for name in meta.depends if name.startswith("linux-image-")), META_PACKAGE)
    package = debian.show([name]).get(name)
    if package is None:
        raise HostError(f"apt knows {META_PACKAGE}, but not the {name} that it needs")
    return package


def fetch(progress: Progress | None = None) -> Kernel:
    """Download and unpack the current cloud kernel, unless the cache has it.

    Raises:
        Unsupported: this is no Debian system.
        HostError: the download failed.
    """
    show = progress or Silent("")
    show.step("asking apt for Debian's cloud kernel")
    package = latest()
    key = hashlib.sha256(f"{package.filename} {_LAYOUT}".encode()).hexdigest()[:16]
    name = f"debian-{package.version.replace(':', '_')}"
    present = kernels.find(name)
    if present and present.key == key:
        return present
    show.step(f"downloading {package.filename}")
    deb = debian.download(package)
    show.step(f"unpacking {package.filename}")
    with cache.scratch(kernels.home()) as scratch:
        root = scratch / "root"
        debian.unpack(deb, root, lambda path: not _UNUSED.intersection(path.parts))
        files = scratch / "files"
        files.mkdir()
        release = _arrange(root, files)
        return kernels.add(
            files,
            name,
            flavour=FLAVOUR,
            release=release,
            source=f"{package.name} {package.version}",
            key=key,
        )


def _arrange(root: Path, files: Path) -> str:
    """Move what is of use from an unpacked package to ``files``; the kernel's release."""
    image = next((root / "boot").glob("vmlinuz-*"), None)
    if image is None:
        raise HostError("the kernel package has no /boot/vmlinuz-*")
    release = image.name.removeprefix("vmlinuz-")
    for modules in (root / "lib/modules" / release, root / "usr/lib/modules" / release):
        if modules.is_dir():
            modules.rename(files / "modules")
            break
    config = root / "boot" / f"config-{release}"
    if config.exists():
        config.rename(files / "config")
    image.rename(files / "bzImage")
    (files / "vmlinux").write_bytes(payload.extract((files / "bzImage").read_bytes()))
    return release
