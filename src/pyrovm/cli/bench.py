"""``pyrovm bench``: measure pyrovm, and its peers on the same machine beside it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pyrovm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 1 if a measurement failed; a target that is missed is a result."""
    from pyrovm.bench import questions, runner

    options = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    if unknown := [name for name in options.question if name not in questions.NAMES]:
        known = ", ".join(questions.NAMES)
        raise ConfigError(f"no question {unknown[0]!r}; there are: {known}")
    if options.list:
        print("\n".join(questions.NAMES))
        return 0
    names = questions.chosen(options.question or questions.ALL)
    results, failed = runner.measure(names)
    if options.json and not failed:
        options.json.write_text(results.dumps())
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyrovm bench",
        description="Measure pyrovm, and its peers on the same machine beside it.  What cannot be "
        "measured here is skipped, with the reason.  Exits 1 if a measurement failed; a target "
        "that is missed is a result.",
    )
    parser.add_argument("question", nargs="*", help="all of them unless some are named")
    parser.add_argument("--list", action="store_true", help="say what can be asked")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the results go")
    return parser
