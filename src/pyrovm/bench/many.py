"""Many processes of one command at once: how fast they come, and what each takes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pyrovm.bench import programs
from pyrovm.bench.smaps import family, sizes

THREADS = 2  # that start them
SAID = b"hello\n"


def at_once(
    command: Callable[[], list[str]], count: int, step: int
) -> tuple[list[tuple[float, float]], list[int]]:
    """Start ``count`` that say hello and stay until the end of their input; then end them.

    Returns how many there were and how many a second the last ``step`` of them came at; and of
    each, with its children, the private memory in KiB when all were there.

    Raises:
        RuntimeError: one does not say hello.
    """
    curve: list[tuple[float, float]] = []
    processes: list[subprocess.Popen[bytes]] = []

    def start(_: int) -> None:
        process = subprocess.Popen(command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        processes.append(process)
        assert process.stdout
        if process.stdout.readline() != SAID:
            raise RuntimeError("it does not start")

    try:
        with ThreadPoolExecutor(THREADS) as pool:
            for alive in range(step, count + 1, step):
                begin = time.monotonic()
                list(pool.map(start, range(step)))
                curve.append((alive, step / (time.monotonic() - begin)))
        return curve, [sum(sizes(pid)[0] for pid in family(each.pid)) for each in processes]
    finally:
        for process in processes:
            assert process.stdin
            process.stdin.close()
        for process in processes:
            assert process.stdout
            process.stdout.close()
            process.wait(programs.TIMEOUT)
