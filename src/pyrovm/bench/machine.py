"""On what the figures were measured."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

from pyrovm import __version__
from pyrovm.bench import guests, peers
from pyrovm.errors import PyrovmError
from pyrovm.guest import kernel_fetch, kernels
from pyrovm.host import facts

PACKAGE = Path(__file__).parent


def about() -> dict[str, str]:
    """Date, versions and CPU, in the order in which they are shown."""
    found = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "pyrovm": f"{__version__} {_commit()}".strip(),
        "Python": platform.python_version(),
        "CPU": f"{os.cpu_count()} x {facts.cpu().model or platform.machine()}",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB",
        "load before": " ".join(f"{value:.2f}" for value in os.getloadavg()),
        "kernel of this machine": platform.release(),
        "KVM of this machine": _kvm(),
        "kernel of the lab": _kernel(kernel_fetch.FLAVOUR),
    }
    for name in guests.available():
        found[f"{name} kernel, in guests"] = _kernel(name)
    for peer in peers.ALL:
        found[peer.name] = (peer.version() or "there") if peer.is_there else "not installed"
    return found


def _commit() -> str:
    words = ["git", "-C", str(PACKAGE), "rev-parse", "--short=10", "HEAD"]
    try:
        done = subprocess.run(words, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return f"({done.stdout.strip()})" if done.returncode == 0 else ""  # no work tree: no commit


def _kvm() -> str:
    from pyrovm.kvm.system import Kvm
    from pyrovm.machine import probe

    try:
        with Kvm() as kvm:
            return probe.kvm_kind(kvm)
    except PyrovmError as error:
        return f"none ({error})"


def _kernel(name: str) -> str:
    kernel = kernels.find(name)
    return f"{kernel.release} ({kernel.source})" if kernel else "none"
