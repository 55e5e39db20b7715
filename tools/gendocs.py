#!/usr/bin/env python3
"""Generate the parts of docs/reference and README.md that the code knows best.

A page says where: between ``<!-- generated: NAME -->`` and ``<!-- /generated -->`` stands what
``NAME`` of this program makes.  Everything else on a page is written by hand.

    tools/gendocs.py            write the pages
    tools/gendocs.py --check    write nothing; exit 1 if a page is not what would be written

Nothing here depends on the version of Python or on the width of a terminal.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "src")]

import gendocs_api  # noqa: E402  (the folders have to be known first)
import gendocs_bench  # noqa: E402
import gendocs_cli  # noqa: E402
import gendocs_libos  # noqa: E402
import gendocs_machine  # noqa: E402
import gendocs_programs  # noqa: E402
import gendocs_sdk  # noqa: E402

PARTS = {
    "benchmarks": gendocs_bench.benchmarks,
    "benchmarks-classic": gendocs_bench.classic,
    "benchmarks-headlines": gendocs_bench.headlines,
    "benchmarks-plots": gendocs_bench.pictures,
    "cli": gendocs_cli.commands,
    "firecracker-flags": gendocs_cli.firecracker_flags,
    "endpoints": gendocs_api.endpoints,
    "bodies": gendocs_api.bodies,
    "config-keys": gendocs_api.config_keys,
    "metrics": gendocs_machine.metrics,
    "exceptions": gendocs_machine.exceptions,
    "signals": gendocs_machine.signals,
    "capabilities": gendocs_machine.capabilities,
    "ioctls": gendocs_machine.ioctls,
    "layout": gendocs_machine.layout,
    "conformance": gendocs_libos.suites,
    "deviations": gendocs_libos.deviations,
    "system-calls": gendocs_libos.calls,
    "programs": gendocs_programs.programs,
    "sdk": gendocs_sdk.classes,
    "sdk-programs": gendocs_sdk.programs,
}
SECTION = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- /generated -->)", re.S)


def filled(text: str) -> str:
    """``text`` with every generated section as it should be now."""
    return SECTION.sub(lambda m: f"{m[1]}\n{PARTS[m[2]]().strip()}\n\n{m[3]}", text)


def main() -> int:
    """Write or check; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only compare with what is there")
    check = parser.parse_args().check
    stale, seen = 0, set()
    for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]:
        old = page.read_text()
        seen.update(match[2] for match in SECTION.finditer(old))
        new = filled(old)
        if old == new:
            continue
        if check:
            stale = 1
            name = str(page.relative_to(ROOT))
            diff = difflib.unified_diff(old.splitlines(True), new.splitlines(True), name, "fresh")
            sys.stdout.writelines(diff)
        else:
            page.write_text(new)
    if plots := gendocs_bench.stale_plots():
        print(f"plots not of these figures (make bench): {', '.join(plots)}")
        stale = 1
    if missing := PARTS.keys() - seen:
        print(f"on no page: {', '.join(sorted(missing))}")
        stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
