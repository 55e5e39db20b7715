"""The initramfs for kernels whose drivers are modules, as a distribution's are.

It does what a kernel with built-in drivers does by itself: loads them, sets the address that
``ip=`` gives, mounts ``root=`` and starts ``init=`` with the words behind ``--``.
"""

from __future__ import annotations

import hashlib
import os
from importlib import resources
from pathlib import Path

from pyrovm.guest.initramfs import shell_init
from pyrovm.guest.kernels import Kernel

MODULES = (
    *("virtio_mmio", "virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "virtio_balloon"),
    *("virtio_console", "vmw_vsock_virtio_transport", "virtio_pmem", "nd_pmem", "virtio_mem"),
    *("ext4", "crc32c_generic", "squashfs", "erofs", "overlay"),
)


def path(kernel: Kernel) -> Path | None:
    """The file, made if need be and kept with the kernel; None where the kernel needs none.

    Raises:
        Unsupported: there is no static busybox.
    """
    tree = kernel.modules
    if tree is None:
        return None
    script = (resources.files("pyrovm.guest") / "data/boot-init").read_text()
    key = hashlib.sha256(f"{script}{MODULES}".encode()).hexdigest()[:8]
    target = kernel.folder / f"initramfs-{key}"
    if not target.exists():
        names = [name for name in MODULES if tree.has(name)]
        script = "mkdir /new\n" + script
        part = target.with_suffix(f".{os.getpid()}")
        part.write_bytes(shell_init(script, modules=tree, names=names))
        part.rename(target)
    return target
