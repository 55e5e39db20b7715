"""Programs of tests/guests/programs: compiled, and run as a process or in a VM of their own."""

import functools
import os
import subprocess
import sys
from pathlib import Path

from pyrovm.guest import cache, programs

SOURCES = Path(__file__).resolve().parents[1] / "guests" / "programs"
TIMEOUT = 120  # seconds; the machine may be busy

# What to compile with: one of each kind of program.
COMPILERS = {
    "glibc": ("gcc", "-pthread"),
    "glibc-static": ("gcc", "-pthread", "-static"),
    "glibc-static-pie": ("gcc", "-pthread", "-static-pie"),
    "musl-static": ("musl-gcc", "-static"),
}


@functools.cache
def why_not():
    """Why programs cannot be made and run here, or None."""
    lacking = [p for p in ("gcc", "musl-gcc", "objcopy", "mkfs.erofs") if not programs.find(p)]
    return f"not found: {', '.join(lacking)}" if lacking else None


def compile_program(name, folder, libc="glibc-static", *flags):
    """The program made of ``name``.c, a file of tests/guests/programs, or of C text."""
    if "\n" in name:
        source = folder / "program.c"
        source.write_text(name)
    else:
        source = SOURCES / f"{name}.c"
    target = folder / f"{source.stem}-{libc}"
    command = [*COMPILERS[libc], "-O2", "-w", *flags, "-o", str(target), str(source)]
    subprocess.run(command, check=True, timeout=TIMEOUT)
    return target


def run_process(*words, **options):
    """Run it here."""
    return _run([str(word) for word in words], **options)


def run_vm(*words, options=(), **more):
    """Run it with ``pyrovm run``; ``options`` are pyrovm's."""
    command = [sys.executable, "-m", "pyrovm.cli.main", "run", *options, "--"]
    return _run([*command, *(str(word) for word in words)], env=environment(), **more)


def environment():
    """Ours, with a cache of its own: the user's is not filled with images of tests."""
    return {**os.environ, "PYROVM_CACHE": str(cache.folder("tests", "programs"))}


def _run(command, **options):
    return subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT, check=False, **options
    )
