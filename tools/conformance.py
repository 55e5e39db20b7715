#!/usr/bin/env python3
"""How far programs in VMs behave as on Linux: suites of others, run here and in VMs.

    tools/conformance.py                    all of it; writes docs/reference/conformance.json
    tools/conformance.py posix [PREFIX]     the Open POSIX Test Suite
    tools/conformance.py python [PREFIX]    CPython's regression tests
    tools/conformance.py calls              which system calls tests/guests/programs make

The first time fetches the suites from Debian's servers and builds them, in the cache.  A run takes
about half an hour on two CPUs.  With PREFIX only what begins with it is run, and only printed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "src"), str(ROOT)]

import conformance_posix  # noqa: E402  (the folders have to be known first)
import conformance_python  # noqa: E402

RESULTS = ROOT / "docs/reference/conformance.json"
SUITES = {"posix": conformance_posix.run, "python": conformance_python.run, "calls": None}
_CALL = re.compile(r"^\[\d+\] (\w+)\(", re.M)


def calls(_limit: str = "") -> dict[str, object]:
    """The system calls of each program of tests/guests/programs, as its trace shows them."""
    from tests.fakes.program_guest import SOURCES, compile_program, run_vm

    found: dict[str, object] = {}
    for source in sorted(SOURCES.glob("*.c")):
        with tempfile.TemporaryDirectory() as folder:
            program = compile_program(source.stem, Path(folder))
            done = run_vm(program, options=["--trace", "-w", "/tmp", "--timeout", "60"])
        found[source.stem] = sorted(set(_CALL.findall(done.stderr)))
        print(f"{source.stem}: {len(_CALL.findall(done.stderr))} calls", file=sys.stderr)
    return found


def main() -> int:
    """Run what was asked for; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("suite", nargs="?", choices=[*SUITES, "all"], default="all")
    parser.add_argument("prefix", nargs="?", default="")
    options = parser.parse_args()
    os.environ.setdefault("LC_ALL", "C.UTF-8")
    for name, run in SUITES.items():
        if options.suite not in (name, "all"):
            continue
        result = (run or calls)(options.prefix)
        if options.prefix:
            print(json.dumps(result, indent=1))
            continue
        if name != "calls":
            result["date"] = datetime.date.today().isoformat()
            result["kernel"] = platform.release().partition("-")[0]
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        results[name] = result
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
