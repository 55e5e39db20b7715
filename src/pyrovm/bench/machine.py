"""On what the figures were measured."""

from __future__ import annotations

import datetime
import platform
import subprocess
from pathlib import Path

from pyrovm import __version__
from pyrovm.bench import guests
from pyrovm.errors import PyrovmError
from pyrovm.guest import kernel_fetch, kernels, programs

PACKAGE = Path(__file__).parent


def about() -> dict[str, str]:
    """Date, versions and CPU, in the order in which they are shown."""
    found = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "pyrovm": f"{__version__} {_commit()}".strip(),
        "Python": platform.python_version(),
        "CPU": _cpu(),
        "kernel of this machine": platform.release(),
        "kernel of the lab": _kernel(kernel_fetch.FLAVOUR),
        "QEMU, the peer and the lab's emulator": _qemu(),
    }
    for name in guests.available():
        found[f"{name} kernel, in guests"] = _kernel(name)
    return found


def _commit() -> str:
    done = subprocess.run(
        ["git", "-C", str(PACKAGE), "rev-parse", "--short=10", "HEAD"],
        capture_output=True,
        text=True,
    )
    return f"({done.stdout.strip()})" if done.returncode == 0 else ""  # no work tree: no commit


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.machine()


def _kernel(name: str) -> str:
    kernel = kernels.find(name)
    return f"{kernel.release} ({kernel.source})" if kernel else "none"


def _qemu() -> str:
    try:
        (qemu,) = programs.require("qemu-system-x86_64")
        return programs.run(qemu, "--version").decode().partition("version ")[2].splitlines()[0]
    except PyrovmError:
        return "none"
