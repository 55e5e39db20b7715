"""How fast programs run once they do: loops with and without system calls."""

from __future__ import annotations

from collections.abc import Iterator

from pyrovm.bench import programs
from pyrovm.bench.figures import Answer, Figure, Sample
from pyrovm.bench.terms import Terms
from pyrovm.bench.words import number

QUESTION = "programs-speed"
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
    """All loops, in a VM and as a plain process by turns."""
    loops = programs.compiled("loops")
    vm = programs.in_vm(loops)
    programs.timed(vm)  # its image is made now, if it was not
    medians: dict[tuple[str, bool], list[float]] = {}
    leasts: dict[tuple[str, bool], float] = {}
    for _ in terms.rounds(ROUNDS, "loops", quick=1):
        for argv in (vm, [loops]):
            for name, median, least in parse(programs.timed(argv).output):
                key = name, argv is vm
                medians.setdefault(key, []).append(median)
                leasts[key] = min(least, leasts.get(key, least))
    found = Answer()
    for name, (text, target) in LOOPS.items():
        ours, peer = leasts[name, True], leasts[name, False]
        found.figures.append(
            Figure(
                question=QUESTION,
                name=text,
                unit="ns",
                ours=Sample.of(medians[name, True]),
                peer=Sample.of(medians[name, False]),
                peer_name="a plain process",
                target=target,
                headline=text if target else "",
                note=f"fastest slice {number(ours)} and {number(peer)} ns: {ours / peer:.2f}",
            )
        )
    return found
