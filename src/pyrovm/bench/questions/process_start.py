"""How soon does one small program run: as a process, in a container, in a VM of its own?

A static hello, natively on this machine, every way by turns: the time until the first byte that it
writes has arrived.  Containers have the program as their only file, and namespaces of their own for
mounts, processes, network, IPC and host name; no limits, no network set up.  crun, which refuses
machines that mix both versions of cgroups, is started there by nsenter in a mount namespace with
one of them (which is a millisecond of its time).  microsandbox and boxlite start an image of their
own (alpine), kept locally from an earlier run.  A template is a program that has run up to that
line before (see the question ``templates``).
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pyrovm
from pyrovm.bench import peers, programs
from pyrovm.bench.containers import Container
from pyrovm.bench.figures import Answer, Bars, Figure, Sample
from pyrovm.bench.peers import Peer
from pyrovm.bench.questions.launcher import running_launcher
from pyrovm.bench.questions.programs.start import first_byte_ms
from pyrovm.bench.questions.templates import POOL, template
from pyrovm.bench.terms import Terms

QUESTION = "process-start"
ROUNDS = 101
LAUNCHER_POOL = 2
SLOW_MS, SLOW_ROUNDS = 200.0, 11  # a peer that takes so long is measured so often

OURS, BY_LAUNCHER = "pyrovm run", "pyrovm run, by the launcher"
OURS_FROM_PYTHON = "pyrovm.run, from Python"
FORKED, POOLED = "pyrovm: template forked", "pyrovm: template, from the pool"
_BOXLITE = """
import asyncio, boxlite
async def main():
    async with boxlite.SimpleBox(image="alpine:latest") as box:
        print((await box.exec("echo", "hello")).stdout, end="", flush=True)
asyncio.run(main())
"""


def box_command(peer: Peer) -> list[str]:
    """A microVM that writes hello, by a peer that runs containers' images in VMs."""
    if peer is peers.BOXLITE:
        return [sys.executable, "-c", _BOXLITE]
    return [str(peer.path), "run", "alpine", "--", "echo", "hello"]


def answer(terms: Terms) -> Answer:
    """All ways by turns."""
    found = Answer()
    hello = programs.compiled("hello", programs.MUSL)
    in_vm = programs.in_vm(hello)
    ours: dict[str, Callable[[], float]] = {
        OURS: lambda: programs.timed(in_vm).first_ms,
        OURS_FROM_PYTHON: lambda: first_byte_ms(lambda fd: pyrovm.run([hello], stdout=fd)),
    }
    theirs: dict[str, Callable[[], float]] = {
        peers.PROCESS: lambda: programs.timed([hello]).first_ms,
        f"{peers.PROCESS}, from Python": lambda: first_byte_ms(
            lambda fd: subprocess.run([hello], stdout=fd)
        ),
    }
    with contextlib.ExitStack() as stack:
        folder = str(stack.enter_context(running_launcher(LAUNCHER_POOL)))
        launcher = {"XDG_RUNTIME_DIR": folder, "PYROVM_LAUNCHER": "auto"}
        ours[BY_LAUNCHER] = lambda: programs.timed(in_vm, **launcher).first_ms
        for name, pool in ((FORKED, 0), (POOLED, POOL)):
            source = stack.enter_context(template([programs.compiled("branch")], pool=pool))
            ours[name] = partial(_branch_ms, source)
        for peer in peers.usable((*peers.CONTAINERS, *peers.BOXES), terms, found.skipped):
            if peer in peers.BOXES:
                command = partial(box_command, peer)
            else:
                box = stack.enter_context(Container(hello))
                command = partial(box.command, peer)
            theirs[peer.name] = partial(_first_ms, command)
        terms.show("each once")
        warm = {name: first() for name, first in ours.items()}
        for name, first in [*theirs.items()]:
            try:
                warm[name] = first()
            except (RuntimeError, subprocess.SubprocessError) as error:
                found.skipped.append(f"{name}: {error}")
                del theirs[name]
        times: dict[str, list[float]] = {name: [] for name in ours | theirs}
        for number in terms.rounds(ROUNDS, "all ways"):
            for name, measure in (ours | theirs).items():
                if number < SLOW_ROUNDS or warm[name] < SLOW_MS:
                    times[name].append(measure())
    samples = {name: Sample.of(values) for name, values in times.items()}
    _compare(found, samples, [*theirs])
    return found


def _branch_ms(source: pyrovm.Template) -> float:
    return first_byte_ms(lambda fd: source.run(["hello"], stdout=fd, check=True))


def _first_ms(command: Callable[[], list[str]]) -> float:
    return programs.timed(command()).first_ms


def _compare(found: Answer, samples: dict[str, Sample], theirs: list[str]) -> None:
    from_python = f"{peers.PROCESS}, from Python"
    boxes = {name: samples[name] for name in theirs if name not in (peers.PROCESS, from_python)}
    found.figures = [
        Figure(
            QUESTION,
            "hello by pyrovm run: process start to first byte",
            "ms",
            samples[OURS],
            samples[peers.PROCESS],
            peers.PROCESS,
            others=boxes,
            headline="`pyrovm run` of hello: start to first byte",
        ),
        Figure(
            QUESTION,
            "hello by pyrovm run, with a launcher: process start to first byte",
            "ms",
            samples[BY_LAUNCHER],
            samples[OURS],
            OURS,
            headline="`pyrovm run` of hello with the launcher: start to first byte",
        ),
        Figure(
            QUESTION,
            "hello by pyrovm.run: call to first byte",
            "ms",
            samples[OURS_FROM_PYTHON],
            samples[from_python],
            "subprocess.run",
            headline="`pyrovm.run` of hello from Python: to its first byte",
        ),
    ]
    values = {name: (sample.median, sample.p99) for name, sample in samples.items()}
    title = "Start of a static hello, until its first byte"
    found.bars.append(Bars(QUESTION, "start-up", title, "ms", values, is_log=True))
