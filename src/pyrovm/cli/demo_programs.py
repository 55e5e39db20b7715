"""``pyrovm demo programs``: three programs, each in a VM of its own, and what they took.

A C program, Python with modules in C, and a web server that the host asks; no Linux kernel, no
lab, on any KVM; without one by Unicorn, where that is installed.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from pyrovm.errors import HostError
from pyrovm.guest.progress import Progress

HELLO = """\
#include <stdio.h>
#include <sys/utsname.h>
int main(void)
{
	struct utsname u;
	uname(&u);
	printf("hello from C, in a VM: %s %s, %s\\n", u.sysname, u.release, u.version);
	return 0;
}
"""
PYTHON = """\
import hashlib, json, sqlite3, sys
table = sqlite3.connect(":memory:")
table.execute("create table numbers(n)")
table.executemany("insert into numbers values(?)", [(n,) for n in range(1000)])
total = table.execute("select sum(n) from numbers").fetchone()[0]
print(json.dumps({"python": sys.version.split()[0], "sqlite3": total,
                  "sha256": hashlib.sha256(b"pyrovm").hexdigest()[:16]}))
"""
PORT = 8000
SERVER_TIMEOUT = 60.0  # seconds
FIRST = "first byte on the host"
BAR = 30  # characters


class Ran:
    """One program that has run: what it said, and what it took."""

    def __init__(self, title: str, said: str, first_ms: float, report: dict[str, object]) -> None:
        self.title = title
        self.said = said
        self.first_ms = first_ms  # from starting pyrovm to the program's first byte
        self.report = report
        memory = report["memory_kib"]
        assert isinstance(memory, dict)
        self.memory: dict[str, int] = memory

    def moments(self) -> list[tuple[str, float]]:
        """What happened and when, in ms since pyrovm was started, in order."""
        timeline = self.report["timeline_ms"]
        assert isinstance(timeline, dict)
        return sorted([*timeline.items(), (FIRST, self.first_ms)], key=lambda moment: moment[1])


def show() -> int:
    """Run and print everything; the exit status."""
    from pyrovm.libos import build

    progress = Progress("demo")
    progress.step("compiling the library OS")
    build.path()
    progress.done()
    python = "python3" if shutil.which("python3") else sys.executable
    ran = []
    with tempfile.TemporaryDirectory(prefix="pyrovm-demo-") as folder:
        source = Path(folder, "hello.c")
        source.write_text(HELLO)
        for title, words in (
            ("a C program", [str(source)]),
            ("CPython: json, hashlib, sqlite3", [python, "-c", PYTHON]),
        ):
            print(f"\n$ pyrovm run -- {_shown(words)}", flush=True)
            run(title, words)  # its image is built
            ran.append(run(title, words))
            print(ran[-1].said, end="")
        ran.append(serve(python))
    print_table(ran)
    return 0


def _shown(words: list[str]) -> str:
    name = os.path.basename(words[0])
    return f"{name} -c 'import ...'" if len(words) > 1 else name


def command(*words: str, options: tuple[str, ...] = ()) -> list[str]:
    """How to run a program in a VM and hear how it went."""
    return [sys.executable, "-m", "pyrovm.cli.main", "run", "--json", *options, "--", *words]


def run(title: str, words: list[str]) -> Ran:
    """Run a program to its end.

    Raises:
        HostError: it has failed.
    """
    began = time.perf_counter()
    with subprocess.Popen(
        command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        first_ms = (time.perf_counter() - began) * 1e3
        rest, errors = process.communicate()
    if process.returncode:
        raise HostError(f"{title} ended with {process.returncode}: {errors.decode()}")
    report = json.loads(errors.splitlines()[-1])
    return Ran(title, (first + rest).decode(), first_ms, report)


def serve(python: str) -> Ran:
    """Start a web server in a VM and ask it for something.

    Raises:
        HostError: it does not answer.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [python, "-m", "http.server", str(PORT)]
    publish = ("-p", f"127.0.0.1:{port}:{PORT}")
    print(f"\n$ pyrovm run -p {port}:{PORT} -- python3 -m http.server {PORT}", flush=True)
    began = time.perf_counter()
    with subprocess.Popen(
        command(*words, options=publish), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            answer = ask(port, process)
            first_ms = (time.perf_counter() - began) * 1e3
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=SERVER_TIMEOUT)
    print(f"$ curl http://127.0.0.1:{port}/\n{answer}")
    reports = [line for line in errors.splitlines() if line.startswith(b"{")]
    return Ran("python3 -m http.server", answer, first_ms, json.loads(reports[-1]))


def ask(port: int, process: subprocess.Popen[bytes]) -> str:
    """The first line of the server's answer, as soon as it gives one."""
    deadline = time.monotonic() + SERVER_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            return f"{answer.status} {answer.reason}, {len(answer.read())} bytes"
        except (OSError, HTTPException):  # it is still starting
            time.sleep(0.002)
        finally:
            connection.close()
    raise HostError("the web server in its VM did not answer")


def print_table(ran: list[Ran]) -> None:
    """When what happened, with a bar for each step, and what each took."""
    last = max(each.moments()[-1][1] for each in ran)
    print("\ntimeline                           at ms     +ms")
    for each in ran:
        print(f"  {each.title}")
        before = 0.0
        for name, at in each.moments():
            start, end = round(before / last * BAR), round(at / last * BAR)
            bar = " " * start + "#" * max(1, end - start)
            print(f"    {name:27}  {at:7.1f} {at - before:7.1f}  {bar}")
            before = at
    print("\nmemory                             private  proportional  exits")
    for each in ran:
        private, proportional = (each.memory[k] / 1024 for k in ("private", "proportional"))
        print(
            f"  {each.title:31}  {private:3.1f} MiB     {proportional:5.1f} MiB"
            f"  {each.report['exits']:5}"
        )
    print("of the whole process, with Python and the guest, when the program has ended")
