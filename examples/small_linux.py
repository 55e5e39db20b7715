"""The guest of the examples: a kernel from pyrovm's cache, and a shell script as its process 1."""

import contextlib
import tempfile
from collections.abc import Iterator
from typing import Any

from pyrovm.guest import boot_initramfs, kernels
from pyrovm.guest.initramfs import shell_init

PATIENCE = 120.0  # seconds for a guest to say something; in the lab everything is slow


@contextlib.contextmanager
def small_linux(script: str) -> Iterator[dict[str, Any]]:
    """What ``MicroVM`` needs to run ``script`` in busybox's shell: its kernel and its initrd."""
    kernel = kernels.find("lean") or kernels.get("debian")
    drivers = kernel.modules  # None where they are built in
    names = [name for name in boot_initramfs.MODULES if drivers and drivers.has(name)]
    with tempfile.NamedTemporaryFile(suffix=".cpio") as initrd:
        initrd.write(shell_init(script, modules=drivers, names=names))
        initrd.flush()
        yield {"kernel": kernel.vmlinux, "initrd": initrd.name}
