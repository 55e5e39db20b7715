#!/usr/bin/env python3
"""Run programs of others in VMs of their own, and see that they say what they have to.

    tools/programs.py               all that are installed here; writes docs/reference/programs.json
    tools/programs.py NAME ...      these, and only print
    tools/programs.py --processes   the same as processes: is the table right?

What they do is in programs_table.py; packages that are not installed are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "src")]

import programs_talk as talk  # noqa: E402  (the folders have to be known first)
from programs_table import CASES, Case  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RESULTS = ROOT / "docs/reference/programs.json"
TIMEOUT = 120  # seconds for a program that ends by itself; the first time its image is made
DATA = "/data"  # the folder, in a VM
PORT = 8080


class NotHere(Exception):
    """The program, or its compiler, is not installed."""


def version(case: Case) -> str:
    """Of the Debian package; raises NotHere."""
    query = ["dpkg-query", "-W", "-f", "${Version} ${Status}", case.package]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    found, _, status = done.stdout.partition(" ")
    if done.returncode or not status.endswith(" installed"):
        raise NotHere(case.package)
    return found


def run(case: Case, *, in_vm: bool, image: str | None = None) -> str:
    """What the case says; with ``image`` that is what has its program.

    Raises:
        NotHere: something that it needs is not installed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        port = PORT if in_vm else _free_port()
        talk.prepare(folder, DATA if in_vm else name, port)
        places = {"data": DATA if in_vm else name, "port": str(port), "built": f"{name}/built"}
        if case.compiler:
            _compile(case, folder)
        command = _words(case.command, places)
        if image is None and shutil.which(command[0]) is None:
            raise NotHere(command[0])
        outside = port
        if in_vm:
            outside = _free_port()
            options = ["-v", f"{name}:{DATA}", *case.options]
            if case.talk:
                options += ["-p", f"127.0.0.1:{outside}:{port}"]
            words = ["--", *command] if image is None else [image, *command[1:]]
            command = [sys.executable, "-m", "pyrovm.cli.main", "run", *options, *words]
        return _said(case, command, folder, outside).replace(name, DATA)


def _words(words: Sequence[str], places: dict[str, str]) -> list[str]:
    if "{cc1}" in words:
        places["cc1"] = _output(["gcc", "-print-prog-name=cc1"])
    made = []
    for word in words:
        for key, value in places.items():
            word = word.replace(f"{{{key}}}", value)
        made.append(word)
    return made


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except FileNotFoundError:
        raise NotHere(command[0]) from None


def _compile(case: Case, folder: Path) -> None:
    command = [word.replace("{built}", f"{folder}/built") for word in case.compiler]
    if shutil.which(command[0]) is None:
        raise NotHere(command[0])
    environment = {**os.environ, "GO111MODULE": "off", "CGO_ENABLED": "0", "GOFLAGS": ""}
    environment["GOCACHE"] = f"{folder}/gocache"
    subprocess.run(command, cwd=folder / case.source, env=environment, check=True, timeout=TIMEOUT)


def _said(case: Case, command: Sequence[str], folder: Path, port: int) -> str:
    if case.talk:
        with _serving(command) as process:
            _wait_for(port, process)
            return case.talk(port)
    with open(folder / case.stdin if case.stdin else os.devnull) as given:
        done = subprocess.run(
            command, stdin=given, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    if done.returncode:
        return f"exit status {done.returncode}: {done.stderr[-500:]}"
    if case.then:
        return "" if case.then(folder) else f"left the wrong thing {done.stderr[-500:]}"
    return done.stdout


@contextlib.contextmanager
def _serving(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.seek(0)
            sys.stderr.buffer.write(log.read()[-2000:] if os.environ.get("PROGRAMS_LOG") else b"")


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until the server accepts: a VM's port does from its start on, and drops what is too early."""
    deadline = time.monotonic() + TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as one:
            one.settimeout(0.3)
            try:
                if one.recv(1):
                    return
            except TimeoutError:
                return  # it waits for what we say
        time.sleep(0.1)
    raise RuntimeError(f"no server at port {port}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def same(case: Case, said: str) -> bool:
    """Whether that is what it has to say; how it is cut into lines does not count."""
    return said.split() == case.says.split()


def main() -> int:
    """Run what was asked for; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="programs of the table")
    parser.add_argument("--processes", action="store_true", help="not in VMs, and only print")
    options = parser.parse_args()
    rows, failed = [], 0
    for case in CASES:
        if options.names and case.name not in options.names:
            continue
        try:
            package = version(case)
            said = run(case, in_vm=not options.processes)
        except NotHere as lacking:
            print(f"{case.name}: not here: {lacking}")
            continue
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            said = f"{type(error).__name__}: {error}"
        is_good = same(case, said)
        failed += not is_good
        print(f"{case.name} {package}: {'good' if is_good else f'{said!r}, not {case.says!r}'}")
        row = {"name": case.name, "package": case.package, "version": package}
        rows.append({**row, "does": case.does, "good": is_good, "note": case.note})
    if not options.names and not options.processes:
        about = {"date": datetime.date.today().isoformat(), "kernel": platform.release()}
        RESULTS.write_text(json.dumps({**about, "programs": rows}, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
