"""How much CPU time does a VMM's process take until clients can connect to its API socket?

From the start of a fresh process, no warm launcher, bytecode in place as an installer leaves it.
The process is stopped as soon as a connection is accepted, and the kernel's account of its CPU time
is read then: to the microsecond, with some 0.2 ms of what comes after.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import pyrovm
from pyrovm.bench.figures import Answer, Detail, Figure, Sample
from pyrovm.bench.terms import Terms

TARGET_MS = 25.0
ROUNDS = 21
TIMEOUT = 30.0  # seconds
_POLL = 0.0002  # seconds between two attempts to connect

SOURCES = Path(pyrovm.__file__).parent.parent
_ENTRY = (
    f"import sys; sys.path.insert(0, {str(SOURCES)!r}); "
    "from pyrovm.cli.firecracker import main; sys.exit(main())"
)
_BARE = [sys.executable, "-I", "-S"]
# For the list of imports: ends where the socket gets its name, with nothing imported after it.
_UNTIL_BIND = (
    "import sys, posix; "
    "sys.addaudithook(lambda event, _: event == 'socket.bind' and posix._exit(0)); "
)
_IMPORT = re.compile(r"import time: +(\d+) \| +(\d+) \| ( *)(\S+)$", re.M)


def cpu_ms(argv: list[str]) -> float:
    """CPU time in ms of the VMM that ``argv`` starts, until its API socket accepts.

    Raises:
        RuntimeError: there was no socket to connect to.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/api.sock"
        process = subprocess.Popen(
            [*argv, "--api-sock", path, "--level", "Error"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _connect(path, process)
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
            return _account_ms(process.pid)
        finally:
            process.kill()
            process.wait()


def _connect(path: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(path)
            except (FileNotFoundError, ConnectionRefusedError):
                time.sleep(_POLL)
            else:
                return
    raise RuntimeError(f"no API socket (status {process.poll()}): {process.args!r}")


def _account_ms(pid: int) -> float:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


def interpreter_ms() -> float:
    """CPU time in ms of an interpreter that does nothing, from start to exit."""
    process = subprocess.Popen([*_BARE, "-c", "pass"], stdin=subprocess.DEVNULL)
    usage = os.wait4(process.pid, 0)[2]
    process.returncode = 0  # it has been waited for
    return (usage.ru_utime + usage.ru_stime) * 1e3


def parse_imports(text: str) -> dict[str, int]:
    """What ``-X importtime`` says: each module's own time in us, imports in it not counted."""
    return {name: int(own) for own, _, _, name in _IMPORT.findall(text)}


def imports_table(runs: Iterable[dict[str, int]]) -> list[list[str]]:
    """Modules by their cost, dearest first: median us of the runs, and what share it is."""
    times: dict[str, list[int]] = {}
    for run in runs:
        for name, own in run.items():
            times.setdefault(name, []).append(own)
    medians = {name: statistics.median(owns) for name, owns in times.items()}
    total = sum(medians.values())
    rows = [
        [name, f"{own:.0f}", f"{100 * own / total:.0f} %"]
        for name, own in sorted(medians.items(), key=lambda item: (-item[1], item[0]))
    ]
    return [*rows, ["all", f"{total:.0f}", "100 %"]]


def _imports(code: str, *words: str) -> dict[str, int]:
    argv = [*_BARE, "-X", "importtime", "-c", code, *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=TIMEOUT)
    return parse_imports(done.stderr)


def imports_until_bind() -> dict[str, int]:
    """What a VMM imports until its API socket has a name: module to us of its own.

    What an interpreter imports anyway is left out.
    """
    before = _imports("pass")
    with tempfile.TemporaryDirectory() as folder:
        seen = _imports(_UNTIL_BIND + _ENTRY, "--api-sock", f"{folder}/api.sock")
    return {name: own for name, own in seen.items() if name not in before}


def answer(terms: Terms) -> Answer:
    """Start it again and again, both ways by turns."""
    command = Path(sys.executable).with_name("pyrovm-firecracker")
    ways = {"isolated Python (-I -S), as the SDK starts it": [*_BARE, "-c", _ENTRY]}
    found = Answer()
    if command.exists():
        ways["pyrovm-firecracker, the installed command"] = [str(command)]
    else:
        found.skipped.append(f"start of the installed command: there is no {command}")
    times: dict[str, list[float]] = {name: [] for name in ways}
    bare: list[float] = []
    runs: list[dict[str, int]] = []
    for number in terms.rounds(ROUNDS + 1, "start"):
        took = {name: cpu_ms(argv) for name, argv in ways.items()}
        idle, imports = interpreter_ms(), imports_until_bind()
        if number:  # the first one has filled the caches
            bare.append(idle)
            runs.append(imports)
            for name, ms in took.items():
                times[name].append(ms)
    for name, values in times.items():
        found.figures.append(
            Figure(
                question="start",
                name=f"process start to API socket, {name}",
                unit="ms CPU",
                ours=Sample.of(values),
                target=TARGET_MS,
                absolute=True,
                headline=""
                if found.figures
                else "a VMM's process without launcher: start to API socket",
            )
        )
    found.figures.append(
        Figure(
            question="start",
            name="of which the interpreter, from start to exit with nothing to do",
            unit="ms CPU",
            ours=Sample.of(bare),
        )
    )
    columns = ["module", "us of its own", "share"]
    found.details.append(
        Detail("start", "What is imported until the socket accepts", columns, imports_table(runs))
    )
    return found
