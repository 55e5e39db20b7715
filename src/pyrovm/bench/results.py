"""Everything that one run found out, as it is kept in a file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Any, Self

from pyrovm.bench.figures import Answer, Detail, Figure


@dataclasses.dataclass(frozen=True)
class Topic:
    """Questions that are answered in the same way, and what that way is."""

    name: str  # what ``pyrovm bench`` calls all of them
    heading: str
    method: str
    questions: list[str]


@dataclasses.dataclass
class Results:
    """One run."""

    about: dict[str, str]  # when, on what
    topics: list[Topic]
    figures: list[Figure]
    details: list[Detail]
    skipped: list[str]

    @classmethod
    def of(cls, about: dict[str, str], topics: list[Topic], answers: Iterable[Answer]) -> Self:
        """Put the answers together."""
        whole = cls(about, topics, [], [], [])
        for answer in answers:
            whole.figures += answer.figures
            whole.details += answer.details
            whole.skipped += answer.skipped
        return whole

    @property
    def with_target(self) -> list[Figure]:
        """The figures that have a target."""
        return [figure for figure in self.figures if figure.is_met is not None]

    def dumps(self) -> str:
        """The text of the file."""
        data = dataclasses.asdict(self)
        data["figures"] = [figure.to_json() for figure in self.figures]
        return json.dumps(data, indent=1) + "\n"

    @classmethod
    def loads(cls, text: str) -> Self:
        """What :meth:`dumps` wrote."""
        data: dict[str, Any] = json.loads(text)
        return cls(
            data["about"],
            [Topic(**topic) for topic in data["topics"]],
            [Figure.from_json(figure) for figure in data["figures"]],
            [Detail(**detail) for detail in data["details"]],
            data["skipped"],
        )
