"""Solo5 guests for tests: the C sources of tests/guests/solo5, compiled; and hand-made images."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from pathlib import Path
from struct import pack

SOURCES = Path(__file__).parents[1] / "guests" / "solo5"
TIMEOUT = 60  # seconds

# Ring 0 is interpreted on a software-only KVM, whose interpreter knows no SSE.
FLAGS = (
    *("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Os", "-ffreestanding", "-nostdlib", "-static"),
    *("-no-pie", "-fno-pie", "-mno-red-zone", "-mgeneral-regs-only", "-fno-stack-protector"),
    *("-fcf-protection=none", "-fno-asynchronous-unwind-tables"),
    *("-fno-tree-loop-distribute-patterns", f"-Wl,-T,{SOURCES / 'guest.lds'}"),
    *("-Wl,--build-id=none", "-Wl,-z,max-page-size=0x1000"),
)


@functools.cache
def compiler() -> str | None:
    """The C compiler, or None where there is none."""
    return shutil.which("gcc")


SSE = ("sse",)  # the guests that only a complete KVM runs


def build(name: str, folder: Path) -> Path:
    """The image of ``name``.c, compiled into ``folder`` unless it is there."""
    flags = [flag for flag in FLAGS if flag != "-mgeneral-regs-only" or name not in SSE]
    image = folder / name
    if not image.exists():
        gcc = compiler()
        assert gcc is not None
        part = image.with_suffix(".part")
        subprocess.run([gcc, *flags, "-o", part, SOURCES / f"{name}.c"], check=True)
        part.rename(image)
    return image


def command(*words: object) -> list[str]:
    """``pyrovm solo5`` with ``words``."""
    return [sys.executable, "-m", "pyrovm.cli.main", "solo5", *map(str, words)]


def run(*words: object, **options) -> subprocess.CompletedProcess[str]:
    """Run a guest to its end; its output is text."""
    return subprocess.run(
        command(*words), capture_output=True, text=True, timeout=TIMEOUT, check=False, **options
    )


# ------------------------------------------------------------------ images by hand

RESERVED = (b"", 1 << 30)
ABI_TYPE, MANIFEST_TYPE = 0x31494241, 0x3154464D


def entry(name: bytes, kind: int, attached: int = 0) -> bytes:
    """One manifest entry."""
    return pack("<68sI16s8sB7x", name, kind, b"", b"", attached)


def manifest(*devices: tuple[bytes, int], version: int = 1, count: int | None = None) -> bytes:
    """A manifest of ``devices`` (name, type) behind the reserved entry."""
    entries = [entry(*RESERVED), *(entry(*device) for device in devices)]
    return pack("<II", version, len(entries) if count is None else count) + b"".join(entries)


def note(kind: int, data: bytes, *, name: bytes = b"Solo5\0", size: int | None = None) -> bytes:
    """One ELF note of Solo5's."""
    length = len(data) if size is None else size
    return pack("<III8s", len(name), length, kind, name) + data


def abi_note(target: int = 1, version: int = 2) -> bytes:
    """The note that says for which tender the image is."""
    return note(ABI_TYPE, pack("<IIII", target, version, 0, 0))


def manifest_note(data: bytes) -> bytes:
    """The note with the manifest."""
    return note(MANIFEST_TYPE, bytes(4) + data)


def elf(
    segments: list[tuple[int, bytes, int, int]],
    notes: list[bytes] | None = None,
    *,
    start: int = 0x100000,
    align: int = 0x1000,
    kind: int = 2,
    machine: int = 62,
    bits: int = 2,
) -> bytes:
    """An image; ``segments`` are (address, data, size in memory, flags R4 W2 X1)."""
    if notes is None:
        notes = [abi_note(), manifest_note(manifest())]
    count = len(segments) + len(notes)
    headers, body, first = b"", b"", 64 + 56 * count
    for gpa, data, mem_size, flags in segments:
        offset = first + len(body)
        headers += pack("<IIQQQQQQ", 1, flags, offset, gpa, gpa, len(data), mem_size, align)
        body += data
    for data in notes:
        headers += pack("<IIQQQQQQ", 4, 4, first + len(body), 0, 0, len(data), len(data), 4)
        body += data
    ident = b"\x7fELF" + bytes([bits, 1, 1]) + bytes(9)
    header = ident + pack(
        "<HHIQQQIHHHHHH", kind, machine, 1, start, 64, 0, 0, 64, 56, count, 0, 0, 0
    )
    return header + headers + body
