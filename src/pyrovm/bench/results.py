"""What one run or several found out, as it is kept in a file.

A file may hold the answers of several runs: each says on what machine and when it was made, and
which of the questions are answered by it.  A later run takes the place of what an earlier one
found out about the same questions.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Self

from pyrovm.bench.figures import Answer, Bars, Curve, Detail, Figure
from pyrovm.errors import ConfigError

FORMAT = 2


@dataclasses.dataclass(frozen=True)
class Topic:
    """Questions that are answered in the same way, and what that way is."""

    name: str  # what ``pyrovm bench`` calls all of them
    heading: str
    method: str
    questions: list[str]


@dataclasses.dataclass(frozen=True)
class Run:
    """When and on what questions were answered."""

    about: dict[str, str]
    seconds: dict[str, float]  # how long each question took
    quick: bool = False  # too few rounds for figures that anybody should quote

    def without(self, names: Collection[str]) -> Run:
        """The run as if it had not answered the questions ``names``."""
        kept = {name: took for name, took in self.seconds.items() if name not in names}
        return dataclasses.replace(self, seconds=kept)


@dataclasses.dataclass(frozen=True)
class Skipped:
    """What was not measured for a question, and why."""

    question: str
    what: str


@dataclasses.dataclass
class Results:
    """The answers of one run or more."""

    runs: list[Run]
    topics: list[Topic]
    figures: list[Figure]
    details: list[Detail]
    curves: list[Curve]
    bars: list[Bars]
    skipped: list[Skipped]

    @classmethod
    def of(cls, run: Run, topics: Iterable[Topic], answers: Mapping[str, Answer]) -> Self:
        """Put the answers of one run together."""
        whole = cls([run], [*topics], [], [], [], [], [])
        for name, answer in answers.items():
            whole.figures += answer.figures
            whole.details += answer.details
            whole.curves += answer.curves
            whole.bars += answer.bars
            whole.skipped += [Skipped(name, what) for what in answer.skipped]
        return whole

    @property
    def with_target(self) -> list[Figure]:
        """The figures that have a target."""
        return [figure for figure in self.in_order if figure.is_met is not None]

    @property
    def in_order(self) -> list[Figure]:
        """The figures in the order of the questions, whenever they were asked."""
        names = [name for topic in self.topics for name in topic.questions]
        places = {name: place for place, name in enumerate(names)}
        return sorted(self.figures, key=lambda figure: places.get(figure.question, len(places)))

    def merged(self, newer: Results, order: Collection[str]) -> Results:
        """What ``newer`` found out, and of ours what it was not asked.

        Args:
            order: the names of topics and questions, as they are to follow each other.
        """
        places = {name: place for place, name in enumerate(order)}

        def place(name: str) -> tuple[int, str]:
            return places.get(name, len(places)), name

        asked = {name for run in newer.runs for name in run.seconds}
        older = self.without(asked)
        topics = {topic.name: topic for topic in older.topics}
        for topic in newer.topics:
            before = topics[topic.name].questions if topic.name in topics else []
            questions = sorted({*topic.questions, *before}, key=place)
            topics[topic.name] = dataclasses.replace(topic, questions=questions)
        return Results(
            older.runs + newer.runs,
            sorted(topics.values(), key=lambda topic: place(topic.name)),
            older.figures + newer.figures,
            older.details + newer.details,
            older.curves + newer.curves,
            older.bars + newer.bars,
            older.skipped + newer.skipped,
        )

    def without(self, names: Collection[str]) -> Results:
        """All but what was found out about the questions ``names``."""
        runs = [run.without(names) for run in self.runs]
        topics = [
            dataclasses.replace(t, questions=[name for name in t.questions if name not in names])
            for t in self.topics
        ]
        return Results(
            [run for run in runs if run.seconds],
            [topic for topic in topics if topic.questions],
            [figure for figure in self.figures if figure.question not in names],
            [detail for detail in self.details if detail.question not in names],
            [curve for curve in self.curves if curve.question not in names],
            [bars for bars in self.bars if bars.question not in names],
            [each for each in self.skipped if each.question not in names],
        )

    def dumps(self) -> str:
        """The text of the file."""
        data: dict[str, Any] = {"format": FORMAT, **dataclasses.asdict(self)}
        data["figures"] = [figure.to_json() for figure in self.figures]
        return json.dumps(data, indent=1) + "\n"

    @classmethod
    def loads(cls, text: str) -> Self:
        """What :meth:`dumps` wrote.

        Raises:
            ConfigError: it is not that, or of another format.
        """
        try:
            data: dict[str, Any] = json.loads(text)
            found = data.get("format")
        except (ValueError, AttributeError) as error:
            raise ConfigError(f"no results of pyrovm bench: {error}") from None
        if found != FORMAT:
            raise ConfigError(f"results of pyrovm bench have format {FORMAT}, these {found!r}")
        return cls(
            [Run(**run) for run in data["runs"]],
            [Topic(**topic) for topic in data["topics"]],
            [Figure.from_json(figure) for figure in data["figures"]],
            [Detail(**detail) for detail in data["details"]],
            [Curve.from_json(curve) for curve in data["curves"]],
            [Bars.from_json(bars) for bars in data["bars"]],
            [Skipped(**each) for each in data["skipped"]],
        )
