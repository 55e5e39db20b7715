"""``pyrovm doctor``: can this host run guests, and if not, why not and what would help."""

from __future__ import annotations

import sys

from pyrovm.cli.doctor_checks import BAD, GOOD, NOTE, Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Sequence
    from typing import TextIO

    from pyrovm.cli.doctor_checks import Finding

COLOURS = {GOOD: "\x1b[32m", NOTE: "\x1b[33m", BAD: "\x1b[31m"}
RESET = "\x1b[0m"
NARROWEST = 60  # columns


def main(argv: Sequence[str]) -> int:
    """Examine the host and report; 0 if Linux guests can run here, else 1."""
    options = _parser().parse_args(argv)
    report = Report()
    if options.json:
        import json

        print(json.dumps(report.to_json(), indent=2))
    else:
        print_report(report, sys.stdout)
    return 0 if report.linux_guests else 1


def _parser() -> ArgumentParser:
    from argparse import ArgumentParser

    parser = ArgumentParser(
        prog="pyrovm doctor",
        description="Say what this host offers to guests, what is missing and how to get it. "
        "The exit status is 0 if Linux guests can run here, else 1.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def print_report(report: Report, out: TextIO) -> None:
    """The table, as wide as the terminal; colours only on a terminal and without NO_COLOR."""
    import os
    import shutil

    coloured = out.isatty() and not os.environ.get("NO_COLOR")
    width = max(NARROWEST, shutil.get_terminal_size().columns)
    for line in render(report.findings, width, coloured=coloured):
        print(line, file=out)
    verdict = "Linux guests can run here." if report.linux_guests else "No Linux guests here."
    print(f"\n{verdict}", file=out)


def render(findings: Sequence[Finding], width: int, *, coloured: bool) -> list[str]:
    """The lines of the table: finding, state, and what there is; below it what a lack blocks."""
    names = max(len(finding.name) for finding in findings)
    states = max(len(state) for state in COLOURS)
    margin = names + states + 4
    lines = []
    for finding in findings:
        state = finding.state.ljust(states)
        if coloured:
            state = f"{COLOURS[finding.state]}{state}{RESET}"
        first, *rest = _wrap(finding.value, width - margin)
        lines.append(f"{finding.name.ljust(names)}  {state}  {first}")
        if finding.state != GOOD and finding.blocks:
            rest += _wrap(f"blocks: {finding.blocks}", width - margin)
        if finding.state != GOOD and finding.fix:
            rest += _wrap(f"fix: {finding.fix}", width - margin)
        lines += [" " * margin + text for text in rest]
    return lines


def _wrap(text: str, width: int) -> list[str]:
    from textwrap import wrap

    return wrap(
        text, width, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False
    ) or [""]
