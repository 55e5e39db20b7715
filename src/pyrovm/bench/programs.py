"""The programs that are measured, and how they are started: in VMs and as plain processes."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

from pyrovm.errors import Unsupported
from pyrovm.guest import cache, programs

FOLDER = Path(__file__).parent / "guest" / "programs"
FLAGS = ("-static", "-O2", "-pthread", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror")
TIMEOUT = 60.0  # seconds
GLIBC, MUSL = "gcc", "musl-gcc"
# Bytecode is in place after the first run, as an installer leaves it; starts are cold ones.
ENVIRONMENT = {key: os.environ[key] for key in os.environ if key != "PYTHONDONTWRITEBYTECODE"}
ENVIRONMENT["PYROVM_LAUNCHER"] = "off"


def compiled(name: str, compiler: str = GLIBC) -> str:
    """The path of a static program made of ``NAME.c``.

    Raises:
        Unsupported: there is no such compiler.
    """
    source = FOLDER / f"{name}.c"
    (gcc,) = programs.require(compiler)
    text = source.read_bytes() + " ".join([compiler, *FLAGS]).encode()
    target = cache.folder("bench", f"programs-{hashlib.sha256(text).hexdigest()[:16]}") / name
    if not target.exists():
        part = target.with_suffix(f".{os.getpid()}")
        programs.run(gcc, *FLAGS, "-o", part, source)
        part.rename(target)
    return str(target)


def interpreter() -> str:
    """The Python that runs this, without the virtual environment around it."""
    return os.path.realpath(sys.executable)


def in_vm(*words: str, options: tuple[str, ...] = ()) -> list[str]:
    """The command line that runs a program in a VM of its own.

    Raises:
        Unsupported: there is no KVM here, or the command is not installed.
    """
    return [command(), "run", *options, "--", *words]


def command() -> str:
    """The installed command.

    Raises:
        Unsupported: there is no KVM here, or the command is not installed.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise Unsupported("no /dev/kvm that can be opened: programs run in VMs of KVM")
    found = Path(sys.executable).with_name("pyrovm")
    if not found.exists():
        raise Unsupported(f"there is no {found}: the command is not installed")
    return str(found)


@dataclasses.dataclass(frozen=True)
class Ran:
    """One process, from its start: until the first byte of its output, and until its end."""

    first_ms: float
    end_ms: float
    cpu_ms: float  # of it and what it has waited for
    output: str


def timed(argv: list[str], **variables: str) -> Ran:
    """Start a process that writes something, and wait for its end.

    ``variables`` are for its environment.

    Raises:
        RuntimeError: it failed, or wrote nothing.
    """
    environment = ENVIRONMENT | variables
    begin = time.perf_counter_ns()
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0, env=environment
    )
    assert process.stdout is not None
    with process.stdout as pipe:
        first = pipe.read(1)
        first_ns = time.perf_counter_ns()
        output = first + pipe.read()
    usage = os.wait4(process.pid, 0)
    end_ns = time.perf_counter_ns()
    process.returncode = os.waitstatus_to_exitcode(usage[1])
    if process.returncode or not first:
        words = " ".join(os.path.basename(word) for word in argv)
        raise RuntimeError(f"status {process.returncode}, output {output[-200:]!r}: {words}")
    return Ran(
        (first_ns - begin) / 1e6,
        (end_ns - begin) / 1e6,
        (usage[2].ru_utime + usage[2].ru_stime) * 1e3,
        output.decode(),
    )
