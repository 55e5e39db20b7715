"""How many requests a server in a VM answers, and how soon."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
from collections.abc import Iterator

from bench import programs
from bench.figures import Answer, Figure, Sample
from bench.progress import Show
from pyrovm.guest import programs as tools

QUESTION = "programs-server"
ROUNDS = 3
SECONDS, CONNECTIONS = 2, 8
PORT = 8080  # in the VM
READY = b"ready\n"

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
print("ready", flush=True)
server.serve_forever()
"""
_RATE = re.compile(r"Requests/sec: +([\d.]+)")
_P99 = re.compile(r"99% +([\d.]+)(us|ms|s)")
_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_ERRORS = re.compile(r"Socket errors: .*|Non-2xx.*")


def parse(text: str) -> tuple[float, float]:
    """Requests a second and the 99th percentile of latency in ms, as wrk says.

    >>> parse("     99%    1.05ms\\nRequests/sec:  76843.32\\n")
    (76843.32, 1.05)

    Raises:
        RuntimeError: there were errors, or no figures.
    """
    rate, p99, errors = _RATE.search(text), _P99.search(text), _ERRORS.search(text)
    if rate is None or p99 is None or errors:
        raise RuntimeError(f"wrk says: {errors[0] if errors else text}")
    return float(rate[1]), float(p99[1]) * _MS[p99[2]]


@contextlib.contextmanager
def _serving(argv: list[str]) -> Iterator[None]:
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != READY:
            raise RuntimeError(f"the server does not start: {argv}")
        yield
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


def _load(wrk: str, port: int) -> tuple[float, float]:
    words = ["-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", f"http://127.0.0.1:{port}/"]
    done = subprocess.run([wrk, *words], capture_output=True, text=True, timeout=programs.TIMEOUT)
    return parse(done.stdout)


def answer(show: Show) -> Answer:
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
        seen: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        for number in range(ROUNDS):
            for is_vm in (True, False):
                show(f"{name}: round {number + 1} of {ROUNDS}, {'VM' if is_vm else 'process'}")
                port = _free_port()
                argv = [*words, str(port)]
                if is_vm:
                    publish = ("-p", f"127.0.0.1:{port}:{PORT}")
                    argv = programs.in_vm(*words, str(PORT), options=publish)
                with _serving(argv):
                    seen[is_vm].append(_load(str(wrk), port))
        for index, (what, unit) in enumerate((("requests", "requests/s"), ("p99", "ms"))):
            found.figures.append(
                Figure(
                    question=QUESTION,
                    name=f"{name}: {what}",
                    unit=unit,
                    ours=Sample.of(pair[index] for pair in seen[True]),
                    peer=Sample.of(pair[index] for pair in seen[False]),
                    peer_name="a plain process",
                    higher_is_better=what == "requests",
                )
            )
    return found
