"""How soon does a program go on from a template that has been started and is at rest?

A template's program has run until it said that it is ready.  A branch is a VM of its own that goes
on from there: by fork(2) of the template's process, on demand or, from the pool, in advance.
Measured natively, from the call in Python to the first byte of the branch's output; a branch of the
pool is called for when the pool is full again.  CPython has imported json, re, hashlib and sqlite3
before it is ready; beside it the same as a plain process.

What copy-on-write costs afterwards: a branch writes one byte to every page of memory that its
template has written to, which is in huge pages; beside it the child of a plain process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import time
from collections.abc import Iterator

import pyrovm
from pyrovm.bench import peers, programs
from pyrovm.bench.figures import Answer, Figure, Sample
from pyrovm.bench.questions.programs.start import first_byte_ms
from pyrovm.bench.terms import Terms

QUESTION = "templates"
FORK_MS, POOL_MS, PYTHON_MS = 4.0, 1.5, 3.0  # Python on top of the other two
ROUNDS = 201
POOL = 4
REFILLED = 0.03  # seconds
COPY_MIB = 64
COPY_ROUNDS = 9

IMPORTS = "import hashlib, json, os, re, sqlite3\n"
PYTHON = (
    IMPORTS
    + """
device = os.open("/dev/pyrovm", os.O_RDWR)
os.write(device, b"ready")
os.write(1, b"hello\\n")
"""
)


@contextlib.contextmanager
def template(words: list[str], **options: int) -> Iterator[pyrovm.Template]:
    """A template that says itself when it is ready."""
    with pyrovm.Template(words, timeout=programs.TIMEOUT, **options) as found:  # type: ignore[arg-type]
        yield found


def answer(terms: Terms) -> Answer:
    """Forked and from the pool, a C program and CPython; then copy-on-write."""
    found = Answer()
    hello = [programs.compiled("branch")]
    python = [programs.interpreter(), "-S", "-c", PYTHON]
    process = [programs.interpreter(), "-S", "-c", IMPORTS + "os.write(1, b'hello\\n')\n"]
    plain = _plain(terms, [programs.compiled("hello")], "process")
    plain_python = _plain(terms, process, "Python as a process")
    for name, words, more_ms, peer in (
        ("static program", hello, 0.0, plain),
        ("CPython, imports done", python, PYTHON_MS, plain_python),
    ):
        for what, pool, target in (("forked", 0, FORK_MS), ("from the pool", POOL, POOL_MS)):
            found.figures.append(
                Figure(
                    QUESTION,
                    f"{name}, template {what}: call to first byte",
                    "ms",
                    _branches(terms, words, pool, f"{name}, {what}"),
                    peer,
                    peers.PROCESS,
                    target=target + more_ms,
                    absolute=True,
                    headline=f"{name}, from a template {what}: to its first byte",
                )
            )
    found.figures += _copies(terms, hello[0])
    return found


def _branches(terms: Terms, words: list[str], pool: int, what: str) -> Sample:
    with template(words, pool=pool) as source:

        def one() -> float:
            return first_byte_ms(lambda fd: source.run(["hello"], stdout=fd, check=True))

        one()
        times = []
        for _ in terms.rounds(ROUNDS, what, share=0.2):
            if pool:
                time.sleep(REFILLED)
            times.append(one())
    return Sample.of(times)


def _plain(terms: Terms, words: list[str], what: str) -> Sample:
    def one() -> float:
        return first_byte_ms(lambda fd: subprocess.run(words, stdout=fd, check=True))

    one()
    return Sample.of([one() for _ in terms.rounds(ROUNDS // 4, what, share=0.05)])


def _copies(terms: Terms, program: str) -> list[Figure]:
    ours: tuple[list[float], list[float]] = ([], [])
    theirs: tuple[list[float], list[float]] = ([], [])
    with template([program, str(COPY_MIB)]) as source:
        for _ in terms.rounds(COPY_ROUNDS, "copy-on-write", share=0.1):
            done = source.run(["copy"], capture_output=True, check=True, text=True)
            plain = programs.timed([program, str(COPY_MIB), "fork"]).output
            for lists, text in ((ours, done.stdout), (theirs, plain)):
                for values, word in zip(lists, text.split(), strict=True):
                    values.append(float(word))
    first = Figure(
        QUESTION,
        f"first write to a page of {COPY_MIB} MiB after a branch",
        "ns a page",
        Sample.of(ours[0]),
        Sample.of(theirs[0]),
        "the child of a plain process",
        note="pages of 4 KiB; the kernel may copy 2 MiB at once, or split the page",
    )
    second = dataclasses.replace(
        first,
        name="second write to the same pages",
        ours=Sample.of(ours[1]),
        peer=Sample.of(theirs[1]),
        note="",
    )
    return [first, second]
