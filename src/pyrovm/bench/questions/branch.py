"""How long does a running machine stand still to be cloned, and how soon does the clone run?

Natively: a machine whose guest writes to all of its memory, again and again, and ticks on its
serial port every 64 pages (which takes some 0.3 ms).  ``PUT /branch`` clones it by fork(2).  It
stands still as long as the VMM says; the clone runs when the first tick of its own has been read
from its console, counted from the request.  Then the clone is killed, and the next one made.  And
a program that has written to so much memory, at rest as a template: from the call to the first byte
of a branch.

In the lab, counted: a Linux guest whose init makes a hypercall every millisecond; its clone runs
with the first entry into it that the lab's kernel sees.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import pyrovm
from pyrovm.bench import guests, halting, labs, programs
from pyrovm.bench.figures import Answer, Curve, Figure, Sample
from pyrovm.bench.questions.programs.start import first_byte_ms
from pyrovm.bench.terms import Terms

QUESTION = "branch"
SIZES_MIB = (128, 256, 512, 1024)
ROUNDS = 101
PROGRAM_MIB = 64  # that its VM has beyond what it writes to
LINUX_MIB, LINUX_ROUNDS = 512, 5
LINUX_S = 90.0  # seconds: the lab may stand still
PAUSE_MS, PAUSE_P99_MS, RUNNING_MS = 2.0, 5.0, 3.0  # with the most memory


def answer(terms: Terms) -> Answer:
    """One machine of each size, cloned again and again."""
    found = Answer()
    sizes = SIZES_MIB if not terms.quick else SIZES_MIB[::3]
    pauses: list[tuple[float, float]] = []
    starts: list[tuple[float, float]] = []
    branches: list[tuple[float, float]] = []
    for mib in sizes:
        pause, running = _clones(terms, mib, 0.6 / len(sizes))
        program = _branches(terms, mib, 0.3 / len(sizes))
        pauses.append((mib, pause.median))
        starts.append((mib, running.median))
        branches.append((mib, program.median))
        is_largest = mib == sizes[-1]
        found.figures += [
            Figure(
                QUESTION,
                f"busy machine of {mib} MiB: stands still for a clone",
                "ms",
                pause,
                target=PAUSE_MS if is_largest else None,
                absolute=True,
                target_p99=PAUSE_P99_MS if is_largest else None,
                headline=f"live branch of a busy {mib} MiB machine: pause" if is_largest else "",
            ),
            Figure(
                QUESTION,
                f"busy machine of {mib} MiB: request until the clone runs",
                "ms",
                running,
                target=RUNNING_MS if is_largest else None,
                absolute=True,
                headline=f"live branch of a busy {mib} MiB machine: until its clone runs"
                if is_largest
                else "",
            ),
            Figure(
                QUESTION,
                f"program with {mib} MiB: template forked, call to first byte",
                "ms",
                program,
                target=RUNNING_MS if is_largest else None,
                absolute=True,
                headline=f"a program with {mib} MiB, its template forked" if is_largest else "",
            ),
        ]
    lines = {
        "machine: the source stands still": pauses,
        "machine: request to running clone": starts,
        "program: call to first byte": branches,
    }
    title = "Live branch of a busy machine"
    found.curves.append(Curve(QUESTION, "branch", title, "memory, MiB", "ms", lines))
    return found


def _clones(terms: Terms, mib: int, share: float) -> tuple[Sample, Sample]:
    pauses, starts = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kernel = folder / "kernel"
        kernel.write_bytes(halting.busy_kernel(mib))
        with pyrovm.MicroVM(kernel, cmdline="", memory=mib) as vm:
            vm.start()
            vm.console.wait_for("\n", programs.TIMEOUT)  # all of its memory is its own now
            for number in terms.rounds(ROUNDS + 1, f"{mib} MiB", share=share):
                pause, running = _clone(vm, folder / str(number))
                if number:  # the first one imports what it needs
                    pauses.append(pause)
                    starts.append(running)
    return Sample.of(pauses), Sample.of(starts)


def _branches(terms: Terms, mib: int, share: float) -> Sample:
    words = [programs.compiled("branch"), str(mib)]
    memory = f"{mib + PROGRAM_MIB}M"
    with pyrovm.Template(words, memory=memory, timeout=programs.TIMEOUT) as source:

        def one() -> float:
            return first_byte_ms(lambda fd: source.run(["hello"], stdout=fd, check=True))

        one()
        return Sample.of([one() for _ in terms.rounds(ROUNDS, f"program, {mib} MiB", share=share)])


def _clone(vm: pyrovm.MicroVM, folder: Path) -> tuple[float, float]:
    """Milliseconds that the source stood still, and until the clone said something."""
    folder.mkdir()
    console = folder / "console"
    os.mkfifo(console)
    body = {"api_sock": str(folder / "socket"), "stdout_path": str(console), "id": "clone"}
    with contextlib.ExitStack() as stack:
        fd = os.open(console, os.O_RDONLY | os.O_NONBLOCK)
        stack.callback(os.close, fd)
        begin = time.perf_counter()
        told: dict[str, Any] = vm.request("PUT", "/branch", {"clones": [body]})
        stack.callback(os.kill, told["clones"][0]["pid"], signal.SIGKILL)
        if not select.select([fd], [], [], programs.TIMEOUT)[0]:
            raise RuntimeError("the clone says nothing")
        return told["pause_us"] / 1e3, (time.perf_counter() - begin) * 1e3


def linux(terms: Terms) -> Answer:
    """A Linux guest, in the lab."""
    found = Answer()
    kernels = guests.available()
    if not kernels:
        found.skipped.append("all of it: no kernel in the cache (pyrovm kernel fetch)")
        return found
    flavour, kernel = next(iter(kernels.items()))
    plan = {
        "args": guests.args(serial=False),
        "memory_mib": LINUX_MIB,
        "rounds": terms.count(LINUX_ROUNDS, 2),
    }
    assets = {"kernel": kernel.vmlinux, "initrd": guests.tiny_initrd(guests.TICKS)}
    seen = labs.ask("branch", plan, assets=assets, counted=True, show=terms.show, timeout=LINUX_S)
    for what, text in (("pause", "stands still for a clone"), ("running", "request to clone runs")):
        found.figures.append(
            Figure(
                "branch-linux",
                f"Linux guest of {LINUX_MIB} MiB: {text}",
                labs.COUNTED,
                Sample.of(seen[what]),
                note=f"{flavour} kernel, at work a few times a millisecond",
            )
        )
    return found
