"""``pyrovm ps``: the running programs that have names."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from typing import TYPE_CHECKING, Any

from pyrovm.errors import PyrovmError
from pyrovm.programs import naming

if TYPE_CHECKING:
    from collections.abc import Sequence

MIB = 1 << 20
PROGRAM_MAX = 60  # characters
HEADINGS = ("NAME", "PID", "SINCE", "MEMORY", "PORTS", "PROGRAM")


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    args = _parser().parse_args(argv)
    try:
        found = [_described(facts) for facts in naming.living()]
    except PyrovmError as error:
        sys.stderr.write(f"pyrovm ps: {error}\n")
        return 1
    if args.json:
        print(json.dumps(found))
    else:
        _print([HEADINGS, *map(_row, found)])
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyrovm ps",
        description="The running programs of this user that were started by pyrovm run --id NAME, "
        "and their copies. Memory is what the VM's process takes, its share of what it shares "
        "included, and what the program may have at most.",
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser


def _described(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": facts["name"],
        "pid": facts["pid"],
        "program": facts["program"],
        "since": facts["since"],
        "source": facts.get("source"),
        "memory_bytes": facts["memory_bytes"],
        "used_bytes": _used(facts["pid"]),
        "ports": facts["ports"],
    }


def _used(pid: int) -> int | None:
    """Its proportional set size; None where it has just ended."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            sizes = [int(line.split()[1]) for line in file if line.startswith("Pss:")]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return sizes[0] * 1024 if sizes else None


def _row(facts: dict[str, Any]) -> tuple[str, ...]:
    used = facts["used_bytes"]
    return (
        facts["name"],
        str(facts["pid"]),
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(facts["since"])),
        f"{'?' if used is None else f'{used / MIB:.1f}'} of {facts['memory_bytes'] // MIB} MiB",
        " ".join(f"{at[0]}:{at[1]}->{port}" for port, at in facts["ports"].items()) or "-",
        _line(shlex.join(facts["program"])),
    )


def _line(text: str) -> str:
    """One line, of a length that can be read."""
    text = " ".join(text.split())
    return text if len(text) <= PROGRAM_MAX else text[: PROGRAM_MAX - 3] + "..."


def _print(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
