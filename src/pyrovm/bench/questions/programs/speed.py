"""How fast programs run once they do: loops with and without system calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from pyrovm.bench import programs
from pyrovm.bench.containers import Container
from pyrovm.bench.figures import Answer, Figure, Sample
from pyrovm.bench.peers import GVISOR, PROCESS, usable
from pyrovm.bench.terms import Terms
from pyrovm.bench.words import number

QUESTION = "programs-speed"
OURS = "pyrovm run"
ROUNDS = 5
TIMES = 1.03  # that of a plain process, where there are no system calls

# loops.c's names: what the tables say, and the target.
LOOPS: dict[str, tuple[str, float | None]] = {
    "compute": ("loop of arithmetic, one turn", TIMES),
    "arrays": ("a * b + c over arrays of floats, one element", TIMES),
    "getpid": ("getpid", None),
    "read": ("pread of 4 KiB from a file of the image", None),
    "ping-pong": ("a byte to another thread by a pipe, and one back", None),
}


def parse(output: str) -> Iterator[tuple[str, float, float]]:
    """Name, median and least ns of each loop.

    >>> list(parse("getpid 144.131 137.502\\n"))
    [('getpid', 144.131, 137.502)]
    """
    for line in output.splitlines():
        name, median, least = line.split()
        yield name, float(median), float(least)


def answer(terms: Terms) -> Answer:
    """All loops, in a VM, as a plain process and under gVisor by turns."""
    found = Answer()
    loops = programs.compiled("loops")
    vm = programs.in_vm(loops)
    programs.timed(vm)  # its image is made now, if it was not
    ways: dict[str, Callable[[], list[str]]] = {OURS: lambda: vm, PROCESS: lambda: [loops]}
    medians: dict[tuple[str, str], list[float]] = {}
    leasts: dict[tuple[str, str], float] = {}
    with Container(loops) as box:
        for peer in usable((GVISOR,), terms, found.skipped):
            ways[peer.name] = partial(box.command, peer)
        for _ in terms.rounds(ROUNDS, "loops", quick=1):
            for way, command in ways.items():
                for name, median, least in parse(programs.timed(command()).output):
                    medians.setdefault((name, way), []).append(median)
                    leasts[name, way] = min(least, leasts.get((name, way), least))
    for name, (text, target) in LOOPS.items():
        ours, peer_ns = leasts[name, OURS], leasts[name, PROCESS]
        found.figures.append(
            Figure(
                question=QUESTION,
                name=text,
                unit="ns",
                ours=Sample.of(medians[name, OURS]),
                peer=Sample.of(medians[name, PROCESS]),
                peer_name=PROCESS,
                others={way: Sample.of(medians[name, way]) for way in [*ways][2:]},
                target=target,
                headline=text if target else "",
                note=f"fastest slice {number(ours)} and {number(peer_ns)} ns: {ours / peer_ns:.2f}",
            )
        )
    return found
