"""Asks questions, one after the other or two at a time, and shows what comes of it."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pyrovm.bench import machine, questions, words
from pyrovm.bench.figures import Answer
from pyrovm.bench.progress import Board
from pyrovm.bench.results import Results
from pyrovm.errors import Unsupported


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

    def ask_all(self, names: Sequence[str]) -> None:
        """Those that need the machine for themselves first, then the others two at a time."""
        for name in names:
            if name in questions.ALONE:
                self.ask(name)
        with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
            list(pool.map(self.ask, [name for name in names if name in questions.SHARED]))


def measure(names: Sequence[str]) -> tuple[Results, list[str]]:
    """Answer the questions ``names``; what was found, and which measurements failed."""
    begin = time.monotonic()
    runner = Runner(Board())
    runner.ask_all(names)
    results = Results.of(
        machine.about(), questions.topics(names), [runner.answers[name] for name in names]
    )
    targets = results.with_target
    missed = [figure.name for figure in targets if not figure.is_met]
    seconds = time.monotonic() - begin
    lines = [f"\n{len(targets) - len(missed)} of {len(targets)} targets met, in {seconds:.0f} s"]
    lines += [f"missed: {name}" for name in missed]
    if runner.failed:
        lines.append(f"failed: {', '.join(runner.failed)}")
    runner.board.write("\n".join(lines))
    return results, runner.failed
