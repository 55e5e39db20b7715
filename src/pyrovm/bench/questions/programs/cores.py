"""What two vCPUs are worth to a program of two threads."""

from __future__ import annotations

import os

from pyrovm.bench import peers, programs
from pyrovm.bench.figures import Answer, Figure, Sample
from pyrovm.bench.terms import Terms

QUESTION = "programs-cpus"
ROUNDS, INSIDE = 7, 9  # runs, and measurements in each


def speed_ups(output: str) -> list[float]:
    """How many times sooner two threads were done, of each line: ns of one, ns of two.

    >>> speed_ups("100 50\\n90 60\\n")
    [2.0, 1.5]
    """
    return [int(one) / int(two) for one, two in map(str.split, output.splitlines())]


def answer(terms: Terms) -> Answer:
    """In a VM of two vCPUs and as a plain process by turns."""
    found = Answer()
    if (os.cpu_count() or 1) < 2:
        found.skipped.append("two vCPUs: this machine has one CPU")
        return found
    words = [programs.compiled("cores"), str(terms.count(INSIDE, 3))]
    vm = programs.in_vm(*words, options=("--cpus", "2"))
    programs.timed(vm)  # its image is made now, if it was not
    ours: list[float] = []
    theirs: list[float] = []
    for _ in terms.rounds(ROUNDS, "two threads", quick=1):
        ours += speed_ups(programs.timed(vm).output)
        theirs += speed_ups(programs.timed(words).output)
    found.figures.append(
        Figure(
            QUESTION,
            "the same work by two threads, --cpus 2: times sooner than by one",
            "times",
            Sample.of(ours),
            Sample.of(theirs),
            peers.PROCESS,
            higher_is_better=True,
            headline="a program of two threads with `--cpus 2`: speed-up",
        )
    )
    return found
