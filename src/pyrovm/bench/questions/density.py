"""How many clones of one template live at once, how soon are they there, what does each take?

Natively.  A static program's template is forked a thousand times by two threads, in steps of a
hundred: until each clone has written its first line; then it waits.  Memory is each clone's VMM
with its guest by /proc/PID/smaps (of every tenth clone), what the program itself touches included,
and what all of them took of the machine's memory, the kernel's own for them included.

Beside them a hundred processes, and a hundred containers of each kind, with the same program, by
two threads; a container's memory is that of all its processes.

A hundred clones of a web server's template, each at a port of its own, are forked and asked one
after the other: until the last one's answer has arrived.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pyrovm
from pyrovm.bench import programs
from pyrovm.bench.containers import Container
from pyrovm.bench.figures import Answer, Bars, Curve, Detail, Figure, Sample
from pyrovm.bench.many import SAID, THREADS, at_once
from pyrovm.bench.peers import CONTAINERS, PROCESS, usable
from pyrovm.bench.smaps import family, kernel_parts, parse_meminfo, sizes
from pyrovm.bench.terms import Terms
from pyrovm.bench.words import number

QUESTION = "density"
CLONES, STEP = 1000, 100
SERVERS = 100
OTHERS, OTHERS_STEP = 100, 20
PORT = 8080
RATE, PRIVATE_KIB, TOTAL_GIB, ANSWERED_S = 200.0, 2560, 20.0, 1.0
EVERY = 10  # clones, one of which is looked at
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def answer(terms: Terms) -> Answer:
    """Many that wait, then some that serve."""
    found = Answer()
    lines, each = _alive(terms, found)
    _others(terms, found, lines, each)
    title = "So many of one program at once: how fast they come"
    found.curves.append(Curve(QUESTION, "density", title, "alive", "a second", lines, True))
    title = "Private memory of each of many"
    found.bars.append(Bars(QUESTION, "density-memory", title, "KiB", each, is_log=True))
    _answering(terms, found)
    return found


def used_kib() -> int:
    """What of the machine's memory is not to be had any more."""
    found = parse_meminfo(Path("/proc/meminfo").read_text())
    return found["MemTotal"] - found["MemAvailable"]


class Clones:
    """Branches of one template that have said hello and wait for the end of their input."""

    def __init__(self, source: pyrovm.Template) -> None:
        self._source = source
        self._stdin, self._end = os.pipe()
        self._said, self._say = os.pipe()
        self._branches: list[pyrovm.Branch] = []
        self._pool = ThreadPoolExecutor(THREADS)
        self._heard = 0

    def add(self, count: int) -> float:
        """So many more; seconds until all of them were there."""
        begin = time.monotonic()
        self._branches += self._pool.map(self._fork, range(count))
        while self._heard < len(SAID) * len(self._branches):
            if not select.select([self._said], [], [], programs.TIMEOUT)[0]:
                raise RuntimeError(f"of {len(self._branches)} clones some say nothing")
            self._heard += len(os.read(self._said, 4096))
        return time.monotonic() - begin

    def _fork(self, _: int) -> pyrovm.Branch:
        branch = self._source.fork(["stay"], stdin=self._stdin, stdout=self._say)
        branch.generation  # noqa: B018  (it has begun when it has said which one it is)
        return branch

    def close(self) -> None:
        """End them all."""
        self._pool.shutdown()
        os.close(self._end)
        for branch in self._branches:
            branch.wait(programs.TIMEOUT)
        for fd in (self._stdin, self._said, self._say):
            os.close(fd)


@contextlib.contextmanager
def _clones(words: list[str]) -> Iterator[Clones]:
    with (
        pyrovm.Template(words, timeout=programs.TIMEOUT) as source,
        contextlib.closing(Clones(source)) as found,
    ):
        yield found


Lines = dict[str, list[tuple[float, float]]]
Each = dict[str, tuple[float, float]]  # p50 and tail


def _alive(terms: Terms, found: Answer) -> tuple[Lines, Each]:
    count, step = (CLONES, STEP) if not terms.quick else (40, 10)
    with _clones([programs.compiled("branch")]) as clones:
        before, kernel, others = used_kib(), kernel_parts(), {*family(os.getpid())}
        curve: list[tuple[float, float]] = []
        for alive in range(step, count + 1, step):
            terms.show(f"{alive} of {count} clones")
            curve.append((alive, step / clones.add(step)))
        used, kernels = used_kib() - before, kernel_parts()
        pids = [pid for pid in family(os.getpid()) if pid not in others]
        if len(pids) < count:
            raise RuntimeError(f"{len(pids)} processes of {count} clones")
        terms.show("memory of the clones")
        each = [sizes(pid) for pid in pids[::EVERY]]
    found.figures += [
        Figure(
            QUESTION,
            f"{count} clones: created",
            "clones/s",
            Sample.of(rate for _, rate in curve),
            target=RATE,
            absolute=True,
            higher_is_better=True,
            note=f"by steps of {step}",
            headline=f"{count} clones of a template: created",
        ),
        Figure(
            QUESTION,
            f"{count} clones: each, private",
            "KiB",
            Sample.of(private for private, _ in each),
            target=PRIVATE_KIB,
            absolute=True,
            headline=f"each of {count} clones, private memory",
        ),
        Figure(
            QUESTION,
            f"{count} clones: each, proportional",
            "KiB",
            Sample.of(pss for _, pss in each),
        ),
        Figure(
            QUESTION,
            f"{count} clones: all of them, of the machine's memory",
            "GiB",
            Sample.of([used / 2**20]),
            target=TOTAL_GIB,
            absolute=True,
            headline=f"{count} clones, of the machine's memory",
        ),
    ]
    parts = {name: (kernels[name] - kib) / count for name, kib in kernel.items()}
    rows = [[name, number(round(kib, 1))] for name, kib in parts.items()]
    rows.append(["all", number(round(sum(parts.values()), 1))])
    title = "The kernel's own memory for each clone, by /proc/meminfo"
    found.details.append(Detail(QUESTION, title, ["", "KiB"], rows))
    sample = Sample.of(private for private, _ in each)
    name = "pyrovm: clones of a template"
    return {name: curve}, {name: (sample.median, sample.p99)}


def _others(terms: Terms, found: Answer, lines: Lines, each: Each) -> None:
    """Processes and containers; what is found goes to ``lines`` and ``each``."""
    count, step = (OTHERS, OTHERS_STEP) if not terms.quick else (10, 5)
    hello = programs.compiled("hello", programs.MUSL)
    with Container(hello, "stay") as box:
        ways: dict[str, Callable[[], list[str]]] = {PROCESS: lambda: [hello, "stay"]}
        for peer in usable(CONTAINERS, terms, found.skipped):
            ways[peer.name] = partial(box.command, peer)
        for name, command in ways.items():
            terms.show(f"{count} times {name}")
            try:
                curve, sizes_kib = at_once(command, count, step)
            except RuntimeError as error:
                found.skipped.append(f"{name}: {error}")
                continue
            lines[name] = curve
            sample = Sample.of(sizes_kib)
            each[name] = sample.median, sample.p99


def ask(address: tuple[str, int]) -> None:
    """One request, and its answer.

    Raises:
        RuntimeError: there was none, or another.
    """
    with socket.create_connection(address, timeout=programs.TIMEOUT) as connection:
        connection.sendall(REQUEST)
        answer = b""
        while not answer.endswith(SAID):
            data = connection.recv(4096)
            if not data:
                raise RuntimeError(f"a clone answers {answer!r}")
            answer += data


def _answering(terms: Terms, found: Answer) -> None:
    count = terms.count(SERVERS, 10)
    times = []
    null = subprocess.DEVNULL
    with pyrovm.Template(
        [programs.compiled("server"), str(PORT)],
        ready=f"port:{PORT}",
        publish=[f"127.0.0.1:0:{PORT}"],
        stdout=null,
        stderr=null,
        timeout=programs.TIMEOUT,
    ) as source:
        for _ in terms.rounds(5, f"{count} clones that serve", quick=1, share=0.3):
            with contextlib.ExitStack() as stack:
                begin = time.monotonic()
                for _ in range(count):
                    ask(stack.enter_context(source.fork(stdout=null)).ports[f"{PORT}/tcp"])
                times.append(time.monotonic() - begin)
    found.figures.append(
        Figure(
            QUESTION,
            f"{count} clones of a server: forked, each has answered",
            "s",
            Sample.of(times),
            target=ANSWERED_S,
            absolute=True,
            headline=f"{count} clones of a web server: each has answered",
        )
    )
