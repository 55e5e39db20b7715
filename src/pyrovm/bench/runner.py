"""Asks questions, one after the other or two at a time, and shows what comes of it."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from pyrovm.bench import machine, questions, words
from pyrovm.bench.figures import Answer
from pyrovm.bench.progress import Board
from pyrovm.bench.questions import Question
from pyrovm.bench.results import Results, Run
from pyrovm.bench.terms import Terms
from pyrovm.errors import Unsupported


class Runner:
    """Answers questions and shows what comes of it.

    Args:
        peers: the names of those to compare with; None: all that are installed.
    """

    def __init__(self, *, quick: bool = False, peers: frozenset[str] | None = None) -> None:
        self.board = Board()
        self.failed: list[str] = []
        self._quick = quick
        self._peers = peers
        self._lock = threading.Lock()
        self._answers: dict[str, Answer] = {}
        self._seconds: dict[str, float] = {}

    def measure(
        self, asked: Sequence[Question], keep: Callable[[Results], None] | None = None
    ) -> Results:
        """Those that need the machine for themselves first, then the others two at a time.

        Args:
            keep: is given what there is after each answer, so that it is not lost.
        """
        about = machine.about()
        begin = time.monotonic()

        def ask(question: Question) -> None:
            self._ask(question)
            if keep:
                with self._lock:
                    keep(self._results(about, asked))

        for question in asked:
            if question.alone:
                ask(question)
        with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
            list(pool.map(ask, [each for each in asked if not each.alone]))
        results = self._results(about, asked)
        self._sum_up(results, time.monotonic() - begin)
        return results

    def _results(self, about: dict[str, str], asked: Sequence[Question]) -> Results:
        """Of the questions that have been answered so far."""
        seconds = dict(self._seconds)
        answered = [each for each in asked if each.name in seconds]
        answers = {each.name: self._answers[each.name] for each in answered}
        run = Run(about, seconds, self._quick)
        return Results.of(run, questions.topics(answered), answers)

    def _ask(self, question: Question) -> None:
        """Answer one; a failure is shown, and remembered."""
        name = question.name
        begin = time.monotonic()
        terms = Terms(self.board.show(name), self._quick, self._peers, question.budget_s)
        try:
            answer = question.answer(terms)
        except Unsupported as error:
            answer = Answer(skipped=[f"all of it: {error}"])
        except Exception:  # the others can still be answered
            self.failed.append(name)
            answer = Answer(skipped=["all of it: the measurement failed"])
            self.board.write(f"\n{name}: failed\n{traceback.format_exc()}")
        self._answers[name] = answer
        self._seconds[name] = round(time.monotonic() - begin, 1)
        self.board.done(name)
        lines = [f"\n{name}, {self._seconds[name]:.0f} s"]
        if answer.figures:
            lines.append(words.terminal(answer.figures))
        lines += [f"skipped: {what}" for what in answer.skipped]
        self.board.write("\n".join(lines))

    def _sum_up(self, results: Results, seconds: float) -> None:
        targets = results.with_target
        missed = [figure.name for figure in targets if not figure.is_met]
        lines = [f"\n{len(targets) - len(missed)} of {len(targets)} targets met, {seconds:.0f} s"]
        lines += [f"missed: {name}" for name in missed]
        if self.failed:
            lines.append(f"failed: {', '.join(self.failed)}")
        self.board.write("\n".join(lines))
