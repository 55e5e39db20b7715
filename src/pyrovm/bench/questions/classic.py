"""What do a virtual machine, a microVM, a unikernel, a container and a process cost?

The table of every course on virtualization, for one small program.  In the lab, whose clock counts
instructions and whose KVM is complete, all by turns: until the program's first act, from the start
of the process that brings it about.  The same natively on this machine, for what runs there.

* virtual machine: QEMU's PC with its firmware, PCI and ACPI, Debian's compressed cloud kernel.
* microVM: pyrovm and QEMU's microvm with a lean kernel.  Both kinds have 128 MiB and an init of 40
  bytes in an initramfs; a distribution's root file system would come on top.
* unikernel: a static hello on pyrovm's library OS, without a Linux kernel.
* container: the same hello in new namespaces, by unshare; natively by crun, too.

Memory is that of the idle VM: private and proportional of the process and its children, guest and
all; and what the kernel took for it meanwhile (slabs, page tables of both stages, stacks, vmalloc),
where some dozens of KiB are chance.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from pyrovm.bench import guests, labs, peers, programs
from pyrovm.bench.containers import Container
from pyrovm.bench.figures import Answer, Bars, Detail, Figure, Sample
from pyrovm.bench.inside.classic import MEMORY_MIB
from pyrovm.bench.terms import Terms
from pyrovm.bench.words import number
from pyrovm.image import index
from pyrovm.libos import build

QUESTION = "classic"
ROUNDS, NATIVE_ROUNDS = 2, 21
TITLE = "From virtual machine to process"
PC_ARGS = "reboot=t panic=-1 tsc=reliable quiet"

NAMES = {
    "vm": "virtual machine (QEMU PC)",
    "qemu": "microVM (QEMU microvm)",
    "pyrovm": "microVM (pyrovm)",
    "unikernel": "unikernel (pyrovm run)",
    "container": "container (unshare)",
    "crun": "container (crun)",
    "process": "process",
}
COLUMNS = [
    "",
    "start, counted ms",
    "start here, ms",
    "image, KiB",
    "private, KiB",
    "proportional, KiB",
    "kernel's own, KiB",
]

Seen = dict[str, dict[str, list[float]]]


def answer(terms: Terms) -> Answer:
    """In the lab, then natively."""
    found = Answer()
    kernels = guests.available()
    if missing := {"lean", "cloud"} - kernels.keys():
        found.skipped.append(f"all of it: no {', '.join(missing)} kernel in the cache")
        return found
    hello = programs.compiled("hello", programs.MUSL)
    image = index.find_or_build([hello])
    assets = {
        "lean": kernels["lean"].vmlinux,
        "bzimage": kernels["cloud"].bzimage,
        "initrd": guests.tiny_initrd(guests.STAYS),
        "image": Path(image.root),
        "libos": Path(build.path()),
        "hello": Path(hello),
    }
    plan = {
        "rounds": terms.count(ROUNDS, 1),
        "args": guests.args(serial=False),
        "pc_args": PC_ARGS,
        "exe": image.exe,
        "argv": list(image.argv),
    }
    seen: Seen = labs.ask("classic", plan, assets=assets, counted=True, show=terms.show)
    kib = {name: os.path.getsize(path) / 1024 for name, path in assets.items()}
    images = {
        "vm": kib["bzimage"] + kib["initrd"],
        **dict.fromkeys(("qemu", "pyrovm"), kib["lean"] + kib["initrd"]),
        "unikernel": kib["image"] + kib["libos"],
        **dict.fromkeys(("container", "crun", "process"), kib["hello"]),
    }
    native = _native(terms, hello, found)
    found.details.append(Detail(QUESTION, TITLE, COLUMNS, table(seen, native, images)))
    _figures(found, seen)
    return found


def table(seen: Seen, native: dict[str, list[float]], images: dict[str, float]) -> list[list[str]]:
    """A row for each kind that was measured at all, medians."""
    rows = []
    for name, text in NAMES.items():
        values = seen.get(name, {})
        if not values and name not in native:
            continue
        cells = [values.get("start", []), native.get(name, []), [images[name]]]
        cells += [values.get(what, []) for what in ("private", "proportional", "kernel")]
        rows.append([text, *(number(Sample.of(cell).median) if cell else "" for cell in cells)])
    return rows


def _native(terms: Terms, hello: str, found: Answer) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {}
    with Container(hello) as box:
        ways: dict[str, Callable[[], list[str]]] = {
            "unikernel": lambda: programs.in_vm(hello),
            "container": lambda: box.command(peers.UNSHARE),
            "crun": lambda: box.command(peers.CRUN),
            "process": lambda: [hello],
        }
        usable = peers.usable((peers.UNSHARE, peers.CRUN), terms, found.skipped)
        if peers.UNSHARE not in usable:
            del ways["container"]
        if peers.CRUN not in usable:
            del ways["crun"]
        for round_ in terms.rounds(NATIVE_ROUNDS + 1, "natively"):
            for name, command in [*ways.items()]:
                try:
                    took = programs.timed(command()).first_ms
                except (RuntimeError, subprocess.SubprocessError) as error:
                    found.skipped.append(f"{NAMES[name]}: {error}")
                    del ways[name]
                    continue
                if round_:  # the first one has filled the caches
                    times.setdefault(name, []).append(took)
    return times


def _figures(found: Answer, seen: Seen) -> None:
    def samples(what: str) -> dict[str, Sample]:
        return {NAMES[name]: Sample.of(values[what]) for name, values in seen.items()}

    for what, unit, text in (
        ("start", labs.COUNTED, "process start to the program's first act"),
        ("private", "KiB", "idle VM, private memory, guest and all"),
        ("kernel", "KiB", "idle VM, the kernel's memory for it"),
    ):
        others = samples(what)
        ours, vm = others.pop(NAMES["unikernel"]), others.pop(NAMES["vm"])
        found.figures.append(
            Figure(QUESTION, f"unikernel: {text}", unit, ours, vm, NAMES["vm"], others=others)
        )
    title = f"Private memory of an idle VM (guests: {MEMORY_MIB} MiB at most)"
    values = {name: (s.median / 1024, s.p99 / 1024) for name, s in samples("private").items()}
    found.bars.append(Bars(QUESTION, "memory", title, "MiB", values, is_log=True))
