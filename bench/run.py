"""Measure pyrovm beside QEMU's microvm on the same KVM.

    python bench/run.py [QUESTION...] [--json FILE] [--docs | --docs-only]

All questions, or those that are named; a run of all is kept in bench/results.json.  What cannot be
measured here is skipped, with the reason.  Exits 1 if a measurement failed; a target that is missed
is a result.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":  # started as a script: the packages are found from the root
    sys.path[:1] = [str(ROOT), str(ROOT / "src")]

from bench import machine, questions, words  # noqa: E402
from bench.figures import Answer  # noqa: E402
from bench.page import PAGE, RESULTS, page  # noqa: E402
from bench.progress import Board  # noqa: E402
from bench.results import Results  # noqa: E402
from pyrovm.errors import Unsupported  # noqa: E402


class Runner:
    """Answers questions and shows what comes of it."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.answers: dict[str, Answer] = {}
        self.failed: list[str] = []

    def ask(self, name: str) -> None:
        """Answer one; a failure is shown, and remembered."""
        try:
            answer = questions.ALL[name](self.board.show(name))
        except Unsupported as error:
            answer = Answer(skipped=[f"{name}: {error}"])
        except Exception:  # the others can still be answered
            self.failed.append(name)
            answer = Answer(skipped=[f"{name}: the measurement failed"])
            self.board.write(f"\n{name}: failed\n{traceback.format_exc()}")
        self.board.done(name)
        self.answers[name] = answer
        if answer.figures:
            self.board.write(f"\n{name}\n{words.terminal(answer.figures)}")
        for what in answer.skipped:
            self.board.write(f"\nskipped: {what}")

    def ask_all(self, names: list[str]) -> None:
        """Those that need the machine for themselves first, then the others two at a time."""
        for name in names:
            if name in questions.ALONE:
                self.ask(name)
        with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
            list(pool.map(self.ask, [name for name in names if name in questions.SHARED]))


def main() -> int:
    """The command line."""
    options = _options()
    if not options.docs_only:
        begin = time.monotonic()
        names = questions.chosen(options.question or questions.ALL)
        runner = Runner(Board())
        runner.ask_all(names)
        results = Results.of(
            machine.about(), questions.topics(names), [runner.answers[name] for name in names]
        )
        _sum_up(results, runner, time.monotonic() - begin)
        target = options.json
        if target is None and not options.question and not runner.failed:
            target = RESULTS  # what is not whole does not replace what is
        if target:
            target.write_text(results.dumps())
        if runner.failed:
            return 1
    if options.docs or options.docs_only:
        write_page()
    return 0


def write_page() -> None:
    """Write the page from the results that are kept."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(Results.loads(RESULTS.read_text())))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("question", nargs="*", help=", ".join(questions.NAMES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the results go")
    parser.add_argument(
        "--docs", action="store_true", help=f"write {PAGE.relative_to(ROOT)} from the results, too"
    )
    parser.add_argument(
        "--docs-only", action="store_true", help="write that page, and measure nothing"
    )
    options = parser.parse_args()
    if unknown := [name for name in options.question if name not in questions.NAMES]:
        parser.error(f"no question {unknown[0]!r}; there are: {', '.join(questions.NAMES)}")
    if options.question and options.docs:
        parser.error("--docs shows a run of all questions: name none")
    if options.docs_only and not RESULTS.exists():
        parser.error(f"--docs-only: no {RESULTS.relative_to(ROOT)} yet")
    return options


def _sum_up(results: Results, runner: Runner, seconds: float) -> None:
    targets = results.with_target
    missed = [figure.name for figure in targets if not figure.is_met]
    lines = [f"\n{len(targets) - len(missed)} of {len(targets)} targets met, in {seconds:.0f} s"]
    lines += [f"missed: {name}" for name in missed]
    if runner.failed:
        lines.append(f"failed: {', '.join(runner.failed)}")
    runner.board.write("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
