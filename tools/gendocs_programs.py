"""The table of programs that were run in VMs of their own, by tools/programs.py."""

from __future__ import annotations

import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parent.parent / "docs/reference/programs.json"


def programs() -> str:
    """Each program, its version, what it did, and whether that went as it has to."""
    results = json.loads(RESULTS.read_text())
    rows = results["programs"]
    good = sum(row["good"] for row in rows)
    lines = [
        f"{good} of {len(rows)} do what they have to ({results['date']}, "
        f"beside Linux {results['kernel'].partition('-')[0]}).",
        "",
        "| program | Debian's package | what it does | result | remark |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        package = f"{row['package']} {row['version']}"
        result = "good" if row["good"] else "**fails**"
        lines.append(f"| {row['name']} | {package} | {row['does']} | {result} | {row['note']} |")
    return "\n".join(lines)
