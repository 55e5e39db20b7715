"""The guests that are measured: kernels from the cache, and initramfs made for the purpose."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

from pyrovm.bench.inside.tracing import HERE
from pyrovm.guest import cache, initramfs, kernels, programs
from pyrovm.guest.kernels import Kernel

FOLDER = Path(__file__).parent / "guest"

# What Firecracker gives a kernel by default, but for how it resets: a triple fault is the one way
# that both machines know.
ARGS = (
    "reboot=t panic=-1 i8042.noaux i8042.nomux i8042.dumbkbd swiotlb=noforce pci=off tsc=reliable"
)
SERIAL_ON, SERIAL_OFF = "console=ttyS0", "8250.nr_uarts=0"

# For Debian's kernel, whose drivers are modules.
MODULES = ("virtio_mmio", "virtio_blk", "virtio_net", "vmw_vsock_virtio_transport")

RESETS, STAYS, TICKS = "resets", "stays", "ticks"  # what init does when it has said "here"

_SYS_POLL, _SYS_PAUSE, _SYS_REBOOT = 7, 34, 169
_REBOOT_MAGIC1, _REBOOT_MAGIC2, _REBOOT_RESTART = 0xFEE1DEAD, 672274793, 0x01234567
_LOAD_ADDRESS, _HEADERS = 0x400000, 64 + 56

_TRAFFIC = """\
IFS=,
set -- $JOB
case $1 in
disk) load disk /dev/vda ;;
tcp)
    ip address add 10.0.0.2/24 dev eth0
    ip link set eth0 up
    load stream tcp 10.0.0.1 5001 send $2
    load stream tcp 10.0.0.1 5002 recv $2
    ;;
vsock)
    load stream vsock 2 5001 send $2
    load stream vsock 2 5002 recv $2
    ;;
esac
exec reboot -f
"""


def args(*, serial: bool, modules: bool = False) -> str:
    """The command line of a guest; with ``serial``, it says all it has to say.

    Args:
        modules: the guest's drivers are modules, which Firecracker's default forbids.
    """
    words = [ARGS, SERIAL_ON if serial else SERIAL_OFF, *([] if modules else ["nomodule"])]
    return " ".join(words)


def available() -> dict[str, Kernel]:
    """The kernels that can be measured, by what the tables call them; some may be missing."""
    found = {name: kernels.find(name) for name in ("lean", "cloud")}
    return {name: kernel for name, kernel in found.items() if kernel is not None}


def elf(code: bytes) -> bytes:
    """A static x86-64 ELF program that is ``code``, with headers and no more (elf(5))."""
    size = _HEADERS + len(code)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)  # 64-bit, little-endian, version 1
    header = struct.pack(
        *("<HHIQQQIHHHHHH", 2, 62, 1, _LOAD_ADDRESS + _HEADERS, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _LOAD_ADDRESS, _LOAD_ADDRESS, size, size, 0x1000)
    return ident + header + segment + code


def init_code(then: str) -> bytes:
    """Machine code of an init: a hypercall that says "here"; RESETS, STAYS asleep for ever after
    it, or TICKS: says so again and again, a millisecond apart.

    KVM allows hypercalls to the kernel only: it notes this one, and answers with an error.
    """
    here = _mov(0, HERE) + b"\x0f\x01\xd9"  # vmmcall; the lab's CPU is an AMD one
    if then == STAYS:
        return here + _mov(0, _SYS_PAUSE) + b"\x0f\x05\xeb\xf7"  # syscall; jmp to the mov
    if then == TICKS:  # poll(NULL, 0, 1)
        wait = _mov(0, _SYS_POLL) + _mov(7, 0) + _mov(6, 0) + _mov(2, 1) + b"\x0f\x05"
        back = len(here + wait) + 2
        return here + wait + b"\xeb" + bytes([256 - back])  # jmp to the beginning
    restart = (
        _mov(7, _REBOOT_MAGIC1) + _mov(6, _REBOOT_MAGIC2) + _mov(2, _REBOOT_RESTART)
    )  # edi, esi, edx
    return here + _mov(0, _SYS_REBOOT) + restart + b"\x0f\x05\xeb\xfe"  # syscall; jmp to itself


def _mov(register: int, value: int) -> bytes:
    return bytes([0xB8 + register]) + struct.pack("<I", value)


def tiny_initrd(then: str = RESETS) -> Path:
    """An initramfs with nothing but that init."""
    image = initramfs.Initramfs()
    image.add_file("init", elf(init_code(then)), 0o755)
    image.add_console()
    return _keep(image.build(), "cpio")


def load_program() -> Path:
    """The program that moves data, compiled for guests and for the lab.

    Raises:
        Unsupported: there is no compiler.
    """
    source = FOLDER / "load.c"
    (gcc,) = programs.require("gcc")
    target = _place(hashlib.sha256(source.read_bytes()).hexdigest(), "load")
    if not target.exists():
        part = target.with_suffix(f".{os.getpid()}")
        programs.run(gcc, "-static", "-O2", "-Wall", "-Wextra", "-Werror", "-o", part, source)
        part.rename(target)
    return target


def traffic_initrd(kernel: Kernel) -> Path:
    """An initramfs that moves data as its command line says, and resets."""
    modules = kernel.modules
    names = MODULES if modules else ()
    base = initramfs.shell_init(_TRAFFIC, modules=modules, names=names)
    extra = initramfs.Initramfs()
    extra.add_file("bin/load", load_program(), 0o755)
    return _keep(base + extra.build(), "cpio")  # the kernel unpacks one archive after the other


def _keep(data: bytes, suffix: str) -> Path:
    target = _place(hashlib.sha256(data).hexdigest(), suffix)
    if not target.exists():
        part = target.with_suffix(f".{os.getpid()}")
        part.write_bytes(data)
        part.rename(target)
    return target


def _place(key: str, suffix: str) -> Path:
    return cache.folder("bench") / f"{key[:16]}.{suffix}"
