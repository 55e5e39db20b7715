"""CPython's own regression tests: Debian's interpreter and tests, natively and in a VM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import conformance_source

from pyrovm.guest import cache, debian
from pyrovm.image import erofs

PYTHON = "python3.11"
MODULES = (
    *("test_json", "test_re", "test_math", "test_struct", "test_zlib", "test_hashlib"),
    *("test_sqlite3", "test_threading", "test_asyncio", "test_socket", "test_io"),
)
SECONDS = 900  # for each module
MEMORY_MIB = 1024
_HERE = Path(__file__).parent
_INSIDE = (_HERE / "conformance_python_inside.py").read_text()
_NO_PROCESSES = ("Errno 38] Function not implemented", "fork", "process pool", "pidfds")

Results = dict[str, tuple[str, str]]  # a test's name -> how it ended, and what an error said


def build() -> tuple[Path, str]:
    """A folder with ``root`` (an installation) and ``root.erofs``; the interpreter's version."""
    folder = cache.folder("conformance", PYTHON)
    packages = debian.closure([PYTHON, f"lib{PYTHON}-testsuite", "netbase"])
    version = next(package.version for package in packages if package.name == PYTHON)
    if (folder / "root.erofs").exists():
        return folder, version
    root = folder / "root"
    cache.remove(root)
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for deb in debian.download_all(packages):
        debian.unpack(deb, root)
    for name in ("tmp", "proc", "dev", "sys"):
        (root / name).mkdir(exist_ok=True)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    # Debian's package of the tests lacks those of a package among them.
    source = folder / "source"
    conformance_source.unpack(PYTHON, source, "*/Lib/test/test_sqlite3/*")
    (source / "Lib/test/test_sqlite3").rename(root / f"usr/lib/{PYTHON}/test/test_sqlite3")
    cache.remove(source)
    erofs.make(folder / "root.erofs", root)
    return folder, version


def run(limit: str = "") -> dict[str, object]:
    """Run all modules whose name begins with ``limit``: what is published of them."""
    folder, version = build()
    modules = {}
    for module in MODULES:
        if module.startswith(limit):
            print(f"{module} ...", file=sys.stderr)
            modules[module] = _compare(natively(folder, module), in_vm(folder, module))
    return {"version": version, "modules": modules}


def natively(folder: Path, module: str) -> Results:
    """The tests of a module, run here by the same interpreter."""
    usr = folder / "root/usr"
    env = {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C.UTF-8",
        "PYTHONHOME": str(usr),
        "LD_LIBRARY_PATH": str(usr / "lib/x86_64-linux-gnu"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with tempfile.TemporaryDirectory() as empty:
        command = [str(usr / "bin" / PYTHON), "-c", _INSIDE, module]
        return _run(command, cwd=empty, env={**env, "HOME": empty, "TMPDIR": empty})


def in_vm(folder: Path, module: str) -> Results:
    """The tests of a module, run in a VM."""
    image = str(folder / "root.erofs")
    vm = [sys.executable, str(_HERE / "conformance_vm.py"), image, str(SECONDS), str(MEMORY_MIB)]
    return _run([*vm, "/tmp", f"/usr/bin/{PYTHON}", "-c", _INSIDE, module])


def _run(command: list[str], cwd: str = "/", env: dict[str, str] | None = None) -> Results:
    with tempfile.TemporaryFile("w+") as output:
        try:
            subprocess.run(
                command,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                timeout=SECONDS + 60,
                check=False,
            )
        except subprocess.TimeoutExpired:
            pass  # what was not printed did not run
        output.seek(0)
        results: Results = {}
        for line in output:
            if line.startswith('["'):
                name, outcome, text = json.loads(line)
                results[name] = (outcome, text)
        return results


def _compare(here: Results, there: Results) -> dict[str, object]:
    """Counts, and the tests that pass natively only, with what they said in the VM."""
    passed = [name for name, (outcome, _) in here.items() if outcome == "ok"]
    different = {name: there.get(name, ("not run", "")) for name in passed}
    different = {name: result for name, result in different.items() if result[0] != "ok"}
    processes = [n for n, (_, text) in different.items() if any(w in text for w in _NO_PROCESSES)]
    return {
        "tests": len(here),
        "natively": _count(here),
        "in a VM": _count(there),
        "passed natively": len(passed),
        "passed in both": len(passed) - len(different),
        "need processes": len(processes),
        "only natively": {
            name: f"{outcome}: {text}"
            for name, (outcome, text) in sorted(different.items())
            if name not in processes
        },
    }


def _count(results: Results) -> dict[str, int]:
    counted: dict[str, int] = {}
    for outcome, _ in results.values():
        counted[outcome] = counted.get(outcome, 0) + 1
    return dict(sorted(counted.items()))
