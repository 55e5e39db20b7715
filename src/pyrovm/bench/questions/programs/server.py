"""How many requests a server in a VM answers, and how soon."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pyrovm.bench import programs
from pyrovm.bench.figures import Answer, Bars, Figure, Sample
from pyrovm.bench.terms import Terms
from pyrovm.guest import programs as tools

QUESTION = "programs-server"
ROUNDS = 3
SECONDS, CONNECTIONS = 2, 8
PORT = 8080  # in the VM
READY = b"ready\n"
FIGURES = (
    ("requests", "requests/s", "rate"),
    ("p99", "ms", "p99_ms"),
    ("CPU time for a request", "us CPU", "cpu_us"),
)

# Answers as server.c does, without a line of log for each request; HTTP/1.1 keeps connections.
PYTHON = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"hello\\n")
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Handler)
server.handle_error = lambda *_: None  # wrk resets its connections when its time is over
print("ready", flush=True)
server.serve_forever()
"""
_COUNT = re.compile(r"(\d+) requests in")
_RATE = re.compile(r"Requests/sec: +([\d.]+)")
_P99 = re.compile(r"99% +([\d.]+)(us|ms|s)")
_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_ERRORS = re.compile(r"Socket errors: .*|Non-2xx.*")


@dataclasses.dataclass(frozen=True)
class Load:
    """What wrk says, and what the server's process took for it."""

    requests: int
    rate: float  # requests a second
    p99_ms: float
    cpu_us: float = 0.0  # for each request


def parse(text: str) -> Load:
    """What wrk says.

    >>> parse("  99%    1.05ms\\n  7690 requests in 0.10s, 0.3MB read\\nRequests/sec:  76843.32\\n")
    Load(requests=7690, rate=76843.32, p99_ms=1.05, cpu_us=0.0)

    Raises:
        RuntimeError: there were errors, or no figures.
    """
    count, rate, p99 = (found.search(text) for found in (_COUNT, _RATE, _P99))
    errors = _ERRORS.search(text)
    if count is None or rate is None or p99 is None or errors:
        raise RuntimeError(f"wrk says: {errors[0] if errors else text}")
    return Load(int(count[1]), float(rate[1]), float(p99[1]) * _MS[p99[2]])


@contextlib.contextmanager
def _serving(argv: list[str]) -> Iterator[int]:
    """A server that is ready; its process."""
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=programs.ENVIRONMENT
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != READY:
            raise RuntimeError(f"the server does not start: {argv}")
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(programs.TIMEOUT)
        finally:
            process.kill()
            process.communicate()


def _free_port() -> int:
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        port: int = any_port.getsockname()[1]
        return port


def _cpu_us(pid: int) -> float:
    """Of all threads, those that have ended too (proc_pid_stat(5): utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1e6 / os.sysconf("SC_CLK_TCK")


def _load(wrk: str, port: int, server: int) -> Load:
    words = ["-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", f"http://127.0.0.1:{port}/"]
    before = _cpu_us(server)
    done = subprocess.run([wrk, *words], capture_output=True, text=True, timeout=programs.TIMEOUT)
    load = parse(done.stdout)
    return dataclasses.replace(load, cpu_us=(_cpu_us(server) - before) / load.requests)


def answer(terms: Terms) -> Answer:
    """Both servers, each in a VM and as a plain process by turns."""
    found = Answer()
    wrk = tools.find("wrk")
    if wrk is None:
        found.skipped.append("servers in VMs: there is no wrk (apt-get install wrk)")
        return found
    servers = {
        "static C server": [programs.compiled("server")],
        "Python's http.server": [programs.interpreter(), "-c", PYTHON],
    }
    for name, words in servers.items():
        seen: dict[bool, list[Load]] = {True: [], False: []}
        for _ in terms.rounds(ROUNDS, name, quick=1, share=1 / len(servers)):
            for is_vm in (True, False):
                port = _free_port()
                argv = [*words, str(port)]
                if is_vm:
                    publish = ("-p", f"127.0.0.1:{port}:{PORT}")
                    argv = programs.in_vm(*words, str(PORT), options=publish)
                with _serving(argv) as server:
                    seen[is_vm].append(_load(str(wrk), port, server))
        for what, unit, field in FIGURES:
            found.figures.append(
                Figure(
                    question=QUESTION,
                    name=f"{name}: {what}",
                    unit=unit,
                    ours=Sample.of(getattr(load, field) for load in seen[True]),
                    peer=Sample.of(getattr(load, field) for load in seen[False]),
                    peer_name="a plain process",
                    higher_is_better=field == "rate",
                    headline=f"{name} in a VM" if field == "rate" else "",
                )
            )
    values = {}
    for figure in found.figures:
        if figure.unit == "requests/s":
            kind = figure.name.partition(":")[0]
            for where, sample in (("pyrovm run", figure.ours), *figure.peers.items()):
                values[f"{kind}, {where}"] = (sample.median, sample.p1)
    title = f"HTTP requests a second, {CONNECTIONS} connections"
    found.bars.append(Bars(QUESTION, "http", title, "requests/s", values, is_log=True))
    return found
