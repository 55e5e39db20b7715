"""What a measurement is: samples with a unit, beside those of a peer.

>>> figure = Figure("start", "to the socket", "ms", Sample.of([3, 1, 2]), Sample.of([4]), "QEMU")
>>> figure.ours.median, figure.ratio
(2, 0.5)
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable
from typing import Any, Self


@dataclasses.dataclass(frozen=True)
class Sample:
    """Repeated measurements of one thing, in the unit of the figure."""

    n: int
    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Sum up the measurements.

        Raises:
            ValueError: there are none.
        """
        found = sorted(values)
        if not found:
            raise ValueError("no measurements to sum up")
        return cls(len(found), statistics.median(found), found[0], found[-1])


@dataclasses.dataclass(frozen=True)
class Figure:
    """One line of the table: ours, beside the peer's where there is one.

    ``target`` bounds the ratio, or our median where there is no peer (``absolute``): from above
    where lower is better, from below otherwise.
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
        if self.target is None or value is None:
            return None
        return value >= self.target if self.higher_is_better else value <= self.target

    def to_json(self) -> dict[str, Any]:
        """As plain data, with what follows from it for whoever reads the file."""
        return dataclasses.asdict(self) | {"ratio": self.ratio, "is_met": self.is_met}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The figure that :meth:`to_json` wrote."""
        fields = {field.name for field in dataclasses.fields(cls)}
        kept = {name: value for name, value in data.items() if name in fields}
        kept["ours"] = Sample(**kept["ours"])
        kept["peer"] = Sample(**kept["peer"]) if kept["peer"] else None
        return cls(**kept)


@dataclasses.dataclass(frozen=True)
class Detail:
    """A table that explains a figure: what exits there were, what imports cost."""

    question: str
    title: str
    columns: list[str]
    rows: list[list[str]]


@dataclasses.dataclass
class Answer:
    """What a question found out."""

    figures: list[Figure] = dataclasses.field(default_factory=list)
    details: list[Detail] = dataclasses.field(default_factory=list)
    skipped: list[str] = dataclasses.field(default_factory=list)  # what, and why
