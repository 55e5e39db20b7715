"""Tiny kernels for tests: the C sources of tests/guests/kernel, compiled and linked as wanted."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "guests" / "kernel"

FLAGS = (
    *("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-Os", "-ffreestanding"),
    *("-nostdlib", "-static", "-no-pie", "-mno-red-zone", "-mgeneral-regs-only"),
    *("-fno-stack-protector", "-fcf-protection=none", "-fno-asynchronous-unwind-tables"),
    *("-fno-tree-loop-distribute-patterns", "-fno-jump-tables", "-Wl,-z,max-page-size=0x1000"),
    *(f"-Wl,-T,{SOURCES / 'kernel.lds'}", "-Wl,--build-id=none", "-Wl,--no-warn-rwx-segments"),
)
WIDE = ("-fpie",)
NARROW = ("-m32", "-fno-pie", "-Wl,-m,elf_i386")

# name -> source, flags, load address, how much higher it is linked
KERNELS = {
    "unikraft": ("linux64.c", WIDE, 0x100000, 0),
    "osv": ("linux64.c", WIDE, 0x200000, 1 << 30),
    "linux": ("linux64.c", WIDE, 0x200000, 0xFFFFFFFF80000000),
    "virtio": ("virtio.c", WIDE, 0x100000, 0),
    "lasting": ("lasting.c", WIDE, 0x100000, 0),
    "multiboot": ("multiboot.c", NARROW, 0x100000, 0),
}


def build(name: str, folder: Path) -> Path:
    """The kernel ``name``, compiled into ``folder`` unless it is there."""
    source, flags, base, offset = KERNELS[name]
    kernel = folder / name
    if not kernel.exists():
        gcc = shutil.which("gcc")
        assert gcc is not None
        part = kernel.with_suffix(".part")
        symbols = f"-Wl,--defsym=BASE={base:#x},--defsym=OFFSET={offset:#x}"
        command = [gcc, *FLAGS, *flags, symbols, "-o", part, SOURCES / source]
        subprocess.run(command, check=True)
        part.rename(kernel)
    return kernel


def write_disk(path: Path | str) -> None:
    """A disk of 16 sectors, each beginning with its number."""
    with open(path, "wb") as disk:
        disk.write(b"".join(b"sector %-9d" % n + bytes(496) for n in range(16)))
