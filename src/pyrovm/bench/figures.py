"""What a measurement is: samples with a unit, beside those of peers; curves; tables.

>>> figure = Figure("start", "to the socket", "ms", Sample.of([3, 1, 2]), Sample.of([4]), "QEMU")
>>> figure.ours.median, figure.ratio
(2, 0.5)
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any, Self


@dataclasses.dataclass(frozen=True)
class Sample:
    """Repeated measurements of one thing, in the unit of the figure."""

    n: int
    median: float
    min: float
    max: float
    p1: float  # by nearest rank: of fewer than a hundred measurements the least
    p99: float  # and the largest

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Sum up the measurements.

        Raises:
            ValueError: there are none.
        """
        found = sorted(values)
        if not found:
            raise ValueError("no measurements to sum up")
        median = statistics.median(found)
        tails = percentile(found, 1), percentile(found, 99)
        return cls(len(found), median, found[0], found[-1], *tails)

    def tail(self, *, higher_is_better: bool) -> float:
        """The worse one of the outer percentiles."""
        return self.p1 if higher_is_better else self.p99


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The least of the ``ordered`` values that ``percent`` of them do not exceed.

    >>> percentile(range(1, 201), 99), percentile([4, 7], 99), percentile([4, 7], 50)
    (198, 7, 4)
    """
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


@dataclasses.dataclass(frozen=True)
class Figure:
    """One line of the table: ours, beside the peers' where there are some.

    ``target`` bounds the ratio to ``peer``, or our median where it is ``absolute``: from above
    where lower is better, from below otherwise.  ``target_p99`` bounds our 99th percentile from
    above, whatever the peers need.
    """

    question: str  # what ``pyrovm bench`` calls it
    name: str
    unit: str
    ours: Sample
    peer: Sample | None = None
    peer_name: str = ""
    target: float | None = None
    absolute: bool = False
    higher_is_better: bool = False
    note: str = ""
    target_p99: float | None = None
    others: dict[str, Sample] = dataclasses.field(default_factory=dict)  # further peers
    headline: str = ""  # what the README calls it, where it is shown there

    @property
    def peers(self) -> dict[str, Sample]:
        """All peers by name, the one first that the ratio is about."""
        first = {self.peer_name: self.peer} if self.peer else {}
        return first | self.others

    @property
    def command(self) -> str:
        """What measures it again."""
        return f"pyrovm bench {self.question}"

    @property
    def ratio(self) -> float | None:
        """Ours divided by the peer's, medians; None without a peer."""
        if self.peer is None or not self.peer.median:
            return None
        return self.ours.median / self.peer.median

    @property
    def is_met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        value = self.ours.median if self.absolute else self.ratio
        verdicts = []
        if self.target is not None and value is not None:
            verdicts.append(value >= self.target if self.higher_is_better else value <= self.target)
        if self.target_p99 is not None:
            verdicts.append(self.ours.p99 <= self.target_p99)
        return all(verdicts) if verdicts else None

    def to_json(self) -> dict[str, Any]:
        """As plain data, with what follows from it for whoever reads the file."""
        more = {"ratio": self.ratio, "is_met": self.is_met, "command": self.command}
        return dataclasses.asdict(self) | more

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The figure that :meth:`to_json` wrote."""
        fields = {field.name for field in dataclasses.fields(cls)}
        kept = {name: value for name, value in data.items() if name in fields}
        kept["ours"] = Sample(**kept["ours"])
        kept["peer"] = Sample(**kept["peer"]) if kept["peer"] else None
        kept["others"] = {name: Sample(**sample) for name, sample in kept["others"].items()}
        return cls(**kept)


@dataclasses.dataclass(frozen=True)
class Detail:
    """A table that explains a figure: what exits there were, what imports cost."""

    question: str
    title: str
    columns: list[str]
    rows: list[list[str]]


@dataclasses.dataclass(frozen=True)
class Bars:
    """One quantity of several things side by side: (p50, tail) each, as a plot."""

    question: str
    slug: str  # of the plot's file
    title: str
    unit: str
    values: dict[str, tuple[float, float]]
    is_log: bool = False

    @classmethod
    def of(cls, figure: Figure, ours: str, slug: str, title: str, *, is_log: bool = False) -> Self:
        """A figure's own sample, called ``ours``, and its peers'."""
        samples = {ours: figure.ours} | figure.peers
        values = {
            name: (sample.median, sample.tail(higher_is_better=figure.higher_is_better))
            for name, sample in samples.items()
        }
        return cls(figure.question, slug, title, figure.unit, values, is_log)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The bars, of what dataclasses.asdict made of them."""
        return cls(
            **data | {"values": {k: (p50, tail) for k, (p50, tail) in data["values"].items()}}
        )


@dataclasses.dataclass(frozen=True)
class Curve:
    """How one quantity depends on another, a line for each of those compared."""

    question: str
    slug: str  # of the plot's file
    title: str
    x: str  # with its unit
    y: str
    lines: dict[str, list[tuple[float, float]]]
    is_log: bool = False

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The curve, of what dataclasses.asdict made of it."""
        lines = {name: [(x, y) for x, y in points] for name, points in data["lines"].items()}
        return cls(**data | {"lines": lines})


@dataclasses.dataclass
class Answer:
    """What a question found out."""

    figures: list[Figure] = dataclasses.field(default_factory=list)
    details: list[Detail] = dataclasses.field(default_factory=list)
    skipped: list[str] = dataclasses.field(default_factory=list)  # what, and why
    curves: list[Curve] = dataclasses.field(default_factory=list)
    bars: list[Bars] = dataclasses.field(default_factory=list)
