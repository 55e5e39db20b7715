"""The same small program as a virtual machine's, a microVM's, a unikernel's, a container's: starts.

    classic.py PLAN    {"rounds": ..., "args": ..., "pc_args": ..., "exe": ..., "argv": [...]}

And what each takes while it idles.  Guests with a Linux kernel have an init that is machine code;
the others are the static hello, whose first byte is what is waited for.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyrovm.bench.inside.machines import (
    SOURCES,
    TIMEOUT,
    Guest,
    Machine,
    Pyrovm,
    Qemu,
    answer,
    say,
    take_assets,
)
from pyrovm.bench.inside.tracing import Tracing
from pyrovm.bench.smaps import family, kernel_kib, sizes

MEMORY_MIB = 128
SETTLED = 0.5  # seconds, for what the kernel frees late

_UNIKERNEL = """
import json, sys
sys.path.insert(0, SOURCES)
from pyrovm.unikernel.program import Program, environment
from pyrovm.unikernel.run import run
image, libos, exe, argv = json.loads(sys.argv[1])
sys.exit(run(Program(image, exe, argv, environment("pyrovm")), libos).status)
""".replace("SOURCES", repr(SOURCES))


class Pc(Qemu):
    """QEMU's ordinary PC: firmware, PCI, ACPI, and a compressed kernel of a distribution."""

    name = "pc"

    def command(self, waits: bool) -> list[str]:
        guest = self.guest
        words = ["qemu-system-x86_64", "-M", "pc,accel=kvm", "-cpu", "host", "-smp", "1"]
        words += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        words += ["-m", f"{guest.memory_mib}M", "-kernel", guest.kernel, "-initrd", guest.initrd]
        return [*words, "-append", guest.args]


def measured(pid: int, before_kib: int) -> dict[str, int]:
    """Memory in KiB of a process with its children, and of the kernel since ``before_kib``."""
    time.sleep(SETTLED)
    each = [sizes(member) for member in family(pid)]
    return {
        "private": sum(private for private, _ in each),
        "proportional": sum(pss for _, pss in each),
        "kernel": kernel_kib() - before_kib,
    }


def machine(kind: type[Machine], guest: Guest, tracing: Tracing) -> dict[str, float]:
    """Start of the process to init, and memory with init asleep."""
    tracing.take()
    before = kernel_kib()
    with kind(guest, Path(tempfile.mkdtemp()), waits=False) as started:
        at = tracing.wait_for_init(TIMEOUT)
        started.settle()
        return {
            "start": (at - started.started_ns) / 1e6,
            **measured(started.process.pid, before),
        }


@contextlib.contextmanager
def saying_hello(argv: list[str]) -> Iterator[tuple[int, int]]:
    """A process that has said hello and stays: its number, and when it said it, in ns."""
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdin
        assert process.stdout
        try:
            if process.stdout.read(1) != b"h":
                raise RuntimeError(f"no hello: {argv}")
            yield process.pid, time.monotonic_ns()
        finally:
            process.stdin.close()


def program(argv: list[str]) -> dict[str, float]:
    """Start of the process to the first byte, and memory with the program asleep."""
    before = kernel_kib()
    begin = time.monotonic_ns()
    with saying_hello(argv) as (pid, at):
        return {"start": (at - begin) / 1e6, **measured(pid, before)}


def ways(plan: dict[str, Any], folder: Path) -> dict[str, list[str]]:
    """Command lines of what is no Linux guest."""
    image, libos, hello = take_assets("image", "libos", "hello")
    os.chmod(hello, 0o755)
    root = folder / "root"
    root.mkdir()
    shutil.copy(hello, root / "hello")
    told = json.dumps([image, libos, plan["exe"], [*plan["argv"], "stay"]])
    namespaces = ["busybox", "unshare", "-m", "-u", "-i", "-n", "-p", "-f"]
    return {
        "unikernel": [sys.executable, "-I", "-S", "-c", _UNIKERNEL, told],
        "container": [*namespaces, "busybox", "chroot", str(root), "/hello", "stay"],
        "process": [hello, "stay"],
    }


def main() -> None:
    plan = json.loads(sys.argv[1])
    lean, bzimage, initrd = take_assets("lean", "bzimage", "initrd")
    small = Guest(lean, initrd, plan["args"], memory_mib=MEMORY_MIB)
    large = Guest(bzimage, initrd, plan["pc_args"], memory_mib=MEMORY_MIB)
    machines = {"vm": (Pc, large), "qemu": (Qemu, small), "pyrovm": (Pyrovm, small)}
    programs = ways(plan, Path(tempfile.mkdtemp()))
    tracing = Tracing()
    found: dict[str, dict[str, list[float]]] = {}
    for number in range(plan["rounds"] + 1):
        say(f"round {number} of {plan['rounds']}" if number else "warming up")
        seen = {name: machine(kind, guest, tracing) for name, (kind, guest) in machines.items()}
        seen |= {name: program(argv) for name, argv in programs.items()}
        if number:
            for name, values in seen.items():
                for what, value in values.items():
                    found.setdefault(name, {}).setdefault(what, []).append(value)
    answer(found)


if __name__ == "__main__":
    main()
