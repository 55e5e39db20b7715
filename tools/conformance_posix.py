"""The Open POSIX Test Suite (Debian's posixtestsuite): one small program for each assertion.

A program ends with 0 (passed), 1 (failed), 2 (unresolved), 4 (unsupported) or 5 (untested).
Programs that make processes are counted and not run; those that set the clock are left out, as
they would set this machine's.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import conformance_source

from pyrovm.guest import cache, programs
from pyrovm.image import erofs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PACKAGE = "posixtestsuite"
OUTCOMES = {0: "passed", 1: "failed", 2: "unresolved", 4: "unsupported", 5: "untested"}
SECONDS = 20  # for each program
WORKERS = 2 * (os.cpu_count() or 1)  # many programs sleep
MEMORY_MIB = 128
LIBRARIES = ("libc.so.6", "libm.so.6", "libgcc_s.so.1")
_FLAGS = ("-w", "-O1", "-std=gnu99", "-D_GNU_SOURCE", "-pthread")
_PROCESSES = re.compile(r"\b(?:fork|system|popen|vfork|execl|execve|wait|waitpid)\s*\(")
_SIGNALLED = 128
_SETS_THE_CLOCK = "clock_settime"
_VM = Path(__file__).with_name("conformance_vm.py")


def build() -> tuple[Path, str]:
    """The suite's folder: ``root`` (programs in /tests) and ``root.erofs``; and its version."""
    folder = cache.folder("conformance", PACKAGE)
    version = conformance_source.unpack(PACKAGE, folder / "source")
    if (folder / "root.erofs").exists():
        return folder, version
    root = folder / "root"
    for name in ("tmp", "proc", "dev", "sys", "etc", "lib64", "lib/x86_64-linux-gnu"):
        (root / name).mkdir(parents=True, exist_ok=True)
    sources = sorted((folder / "source/conformance/interfaces").glob("*/*.c"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda source: _compile(source, folder), sources))
    for library in LIBRARIES:
        found = programs.run("gcc", f"-print-file-name={library}").decode().strip()
        (root / "lib/x86_64-linux-gnu" / library).write_bytes(Path(found).read_bytes())
    loader = Path("/lib64/ld-linux-x86-64.so.2")
    (root / "lib64" / loader.name).write_bytes(loader.read_bytes())
    (root / "lib64" / loader.name).chmod(0o755)
    erofs.make(folder / "root.erofs", root)
    return folder, version


def _compile(source: Path, folder: Path) -> None:
    text = source.read_text(errors="replace")
    if "main" not in text or _PROCESSES.search(text):
        return
    target = folder / "root/tests" / source.parent.name / source.stem
    target.parent.mkdir(parents=True, exist_ok=True)
    include = folder / "source/include"
    words = ["gcc", *_FLAGS, f"-I{include}", "-o", target, source, "-lrt", "-lm"]
    # What does not compile with this C library is not a test of ours.
    subprocess.run([str(w) for w in words], check=False, stderr=subprocess.DEVNULL)


def not_run(folder: Path) -> int:
    """How many programs make processes."""
    sources = (folder / "source/conformance/interfaces").glob("*/[0-9]*-*.c")
    return sum(bool(_PROCESSES.search(path.read_text(errors="replace"))) for path in sources)


def run(limit: str = "") -> dict[str, object]:
    """Run all programs whose name begins with ``limit``: what is published of them."""
    folder, version = build()
    root = folder / "root/tests"
    names = sorted(str(p.relative_to(root)) for p in root.glob("*/*-*") if p.is_file())
    names = [n for n in names if n.startswith(limit) and not n.startswith(_SETS_THE_CLOCK)]
    done: list[str] = []
    lock = threading.Lock()

    def both(name: str) -> tuple[str, str, str]:
        with tempfile.TemporaryDirectory() as empty:
            here = _outcome([root / name], empty)
        image = folder / "root.erofs"
        vm = [sys.executable, _VM, image, SECONDS, MEMORY_MIB, "/tmp", f"/tests/{name}"]
        there = _outcome(vm, "/")
        with lock:
            done.append(name)
            print(f"\r{len(done)}/{len(names)} {name:50}", end="", file=sys.stderr)
        return name, here, there

    with ThreadPoolExecutor(WORKERS) as pool:
        results = list(pool.map(both, names))
    print(file=sys.stderr)
    passed = [(name, there) for name, here, there in results if here == "passed"]
    return {
        "version": version,
        "programs": len(results),
        "with processes": not_run(folder),
        "natively": _count(here for _, here, _ in results),
        "in a VM": _count(there for _, _, there in results),
        "passed natively": len(passed),
        "passed in both": sum(there == "passed" for _, there in passed),
        "only natively": {name: there for name, there in passed if there != "passed"},
        "only in a VM": [n for n, here, there in results if here != "passed" and there == "passed"],
    }


def _count(outcomes: Iterable[str]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for outcome in outcomes:
        counted[outcome] = counted.get(outcome, 0) + 1
    return dict(sorted(counted.items()))


def _outcome(command: Sequence[object], folder: str) -> str:
    try:
        status = subprocess.run(
            [str(word) for word in command],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS + 10,
            check=False,
            start_new_session=True,  # some send signals to their group
        ).returncode
    except subprocess.TimeoutExpired:
        return "timeout"
    if status < 0:
        status = _SIGNALLED - status
    if status == 124:
        return "timeout"
    if status > _SIGNALLED:
        return f"signal {status - _SIGNALLED}"
    return OUTCOMES.get(status, f"status {status}")
