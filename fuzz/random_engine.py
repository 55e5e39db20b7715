"""Fuzzing without atheris: random mutations, and the lines they reach as a guide."""

from __future__ import annotations

import time
from random import Random

from fuzz.findings import Findings
from fuzz.mutate import Mutator
from fuzz.trace import traced

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fuzz.trace import Lines

TRACED = 8  # one in so many inputs is traced: tracing costs ten times the input itself


def fuzz(
    target: str,
    one_input: Callable[[bytes], object],
    inputs: list[bytes],
    seconds: float,
    words: tuple[bytes, ...] = (),
    seed: int | None = None,
) -> tuple[int, list[bytes]]:
    """Try inputs for ``seconds``; how many, and those that are worth keeping.

    Failures are reported as they are met, and are not kept.
    """
    findings = Findings(target)
    kept = list(inputs)
    known: Lines = set()
    tried = 0

    def reaches_something_new(data: bytes) -> bool:
        lines: Lines = set()
        failed = False

        def call() -> None:
            nonlocal failed
            failed = findings.run(one_input, data)

        lines = traced(call)
        is_new = not failed and not lines <= known
        known.update(lines)
        return is_new

    for data in inputs:
        reaches_something_new(data)
        tried += 1
    mutator = Mutator(Random(seed), kept, words)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = mutator.next()
        tried += 1
        if tried % TRACED:
            findings.run(one_input, data)
        elif reaches_something_new(data):
            kept.append(data)
    return tried, kept
