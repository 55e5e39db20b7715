"""How soon programs run, from the command line and from Python."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pyrovm
from pyrovm.bench import programs
from pyrovm.bench.figures import Answer, Figure, Sample
from pyrovm.bench.terms import Terms

QUESTION = "programs-start"
COLD_MS, VMM_MS, GUEST_MS, WARM_MS, RUNS_A_SECOND, PYTHON_TIMES = 60, 3, 1, 10, 50, 1.5
COLD, WARM, PARTS, PYTHON = 21, 101, 31, 21  # rounds
LOOP_S = 2.0  # for counting runs a second
PLAIN = "a plain process"


def answer(terms: Terms) -> Answer:
    """Cold, warm, in parts; hello and Python."""
    hello = programs.compiled("hello", programs.MUSL)
    terms.show("images")
    programs.timed(programs.in_vm(hello))  # made now, if it was not
    found = Answer()
    found.figures += _cold(terms, hello)
    found.figures += _parts(terms, hello, found.skipped)
    found.figures += _warm(terms, hello)
    found.figures += _python(terms)
    return found


def _figure(name: str, unit: str, ours: list[float], peer: list[float] | None = None) -> Figure:
    sample, kind = (Sample.of(peer), PLAIN) if peer else (None, "")
    return Figure(QUESTION, name, unit, Sample.of(ours), sample, kind)


def _absolute(figure: Figure, target: float) -> Figure:
    return dataclasses.replace(figure, target=target, absolute=True)


def _cold(terms: Terms, hello: str) -> list[Figure]:
    vm, plain = [], []
    for _ in terms.rounds(COLD, "hello, cold", share=0.25):
        vm.append(programs.timed(programs.in_vm(hello)))
        plain.append(programs.timed([hello]))
    first = [ran.first_ms for ran in vm], [ran.first_ms for ran in plain]
    cpu = [ran.cpu_ms for ran in vm], [ran.cpu_ms for ran in plain]
    return [
        _absolute(_figure("pyrovm run hello: process start to first byte", "ms", *first), COLD_MS),
        _figure("pyrovm run hello: CPU time, to its end", "ms CPU", *cpu),
    ]


@dataclasses.dataclass(frozen=True)
class Clock:
    """The host's CLOCK_MONOTONIC, in ns, when the TSC was what it was."""

    tsc: int
    ns: int


def host_clock(hello: str) -> Clock:
    """What the program reads as a plain process."""
    tsc, ns = map(int, programs.timed([hello, "when"]).output.split())
    return Clock(tsc, ns)


def ns_at(tsc: int, before: Clock, after: Clock) -> float:
    """The host's time when the TSC was ``tsc``.

    >>> ns_at(150, Clock(100, 1000), Clock(200, 3000))
    2000.0
    """
    share = (tsc - before.tsc) / (after.tsc - before.tsc)
    return before.ns + share * (after.ns - before.ns)


def _parts(terms: Terms, hello: str, skipped: list[str]) -> list[Figure]:
    opened: list[float] = []
    cpu: list[float] = []
    guest: list[float] = []
    for _ in terms.rounds(PARTS, "hello, its parts", share=0.25):
        before = host_clock(hello)
        argv = [sys.executable, "-m", "pyrovm.bench.once", hello, "when"]
        done = subprocess.run(
            argv,
            capture_output=True,
            timeout=programs.TIMEOUT,
            check=True,
            env=programs.ENVIRONMENT,
        )
        after = host_clock(hello)
        report = json.loads(done.stderr)
        entry = ns_at(report["entry_tsc"], before, after)
        if not report["built_ns"] <= entry <= report["ended_ns"]:
            skipped.append("the VMM's part of a start: the guest's TSC is not the host's here")
            return []
        opened.append((entry - report["opened_ns"]) / 1e6)
        cpu.append(report["build_cpu_ns"] / 1e6)
        ticks = int(done.stdout.split()[0]) - report["entry_tsc"]
        guest.append(ticks / report["tsc_khz"])
    first = _figure("VMM: opening KVM to the guest's first instruction", "ms", opened)
    first = dataclasses.replace(
        first, headline="its VMM: opening KVM to the guest's first instruction"
    )
    return [
        _absolute(first, VMM_MS),
        _figure("of which CPU time, until KVM_RUN", "ms CPU", cpu),
        _absolute(_figure("guest: first instruction to main", "ms", guest), GUEST_MS),
    ]


def first_byte_ms(run: Callable[[int], object]) -> float:
    """How long after the beginning of ``run(fd)`` there is something to read from the pipe.

    Raises:
        RuntimeError: nothing was written.
    """
    readable, writable = os.pipe()

    def read() -> tuple[bytes, int]:
        return os.read(readable, 1), time.perf_counter_ns()

    try:
        with ThreadPoolExecutor(1) as pool:
            reader = pool.submit(read)
            begin = time.perf_counter_ns()
            try:
                run(writable)
            finally:
                os.close(writable)
            first, at = reader.result()
    finally:
        os.close(readable)
    if not first:
        raise RuntimeError("nothing was written")
    return (at - begin) / 1e6


def runs_a_second(run: Callable[[], object]) -> float:
    """How many runs two threads make in a second."""
    begin = time.monotonic()

    def loop(_: int) -> int:
        count = 0
        while time.monotonic() < begin + LOOP_S:
            run()
            count += 1
        return count

    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(loop, range(2))) / (time.monotonic() - begin)


def _warm(terms: Terms, hello: str) -> list[Figure]:
    vm, plain = [], []
    for _ in terms.rounds(WARM, "hello, warm", share=0.25):
        vm.append(first_byte_ms(lambda fd: pyrovm.run([hello], stdout=fd, check=True)))
        plain.append(first_byte_ms(lambda fd: subprocess.run([hello], stdout=fd, check=True)))
    null = subprocess.DEVNULL
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in terms.rounds(3, "hello, runs a second", quick=1):
        rates[0].append(runs_a_second(lambda: pyrovm.run([hello], stdout=null, check=True)))
        rates[1].append(runs_a_second(lambda: subprocess.run([hello], stdout=null, check=True)))
    rate = _figure("pyrovm.run of hello, two threads", "runs/s", *rates)
    return [
        _absolute(_figure("pyrovm.run of hello: call to first byte", "ms", vm, plain), WARM_MS),
        dataclasses.replace(
            _absolute(rate, RUNS_A_SECOND),
            higher_is_better=True,
            headline="`pyrovm.run` of hello by two threads",
        ),
    ]


def _python(terms: Terms) -> list[Figure]:
    # Without site, so that both import the same modules: the image has none of this machine's.
    python = [programs.interpreter(), "-S", "-c", "print('hello')"]
    terms.show("Python: its image")
    pyrovm.run(python, stdout=subprocess.DEVNULL, check=True)
    commands, calls, plain = [], [], []
    for _ in terms.rounds(PYTHON, "Python", share=0.25):
        commands.append(programs.timed(programs.in_vm(*python)))
        begin = time.perf_counter_ns()
        pyrovm.run(python, stdout=subprocess.PIPE, check=True)
        calls.append((time.perf_counter_ns() - begin) / 1e6)
        plain.append(programs.timed(python))
    peer = [ran.end_ms for ran in plain]
    command = [ran.end_ms for ran in commands]
    figures = [
        _figure("pyrovm.run of python3 -S -c \"print('hello')\", to its end", "ms", calls, peer),
        _figure("pyrovm run of the same, process start to end", "ms", command, peer),
    ]
    cpu = [ran.cpu_ms for ran in commands], [ran.cpu_ms for ran in plain]
    figures[0] = dataclasses.replace(figures[0], headline="CPython's hello by `pyrovm.run`")
    return [
        *(dataclasses.replace(figure, target=PYTHON_TIMES) for figure in figures),
        _figure("pyrovm run of the same: CPU time", "ms CPU", *cpu),
    ]
