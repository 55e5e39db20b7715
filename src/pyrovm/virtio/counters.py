"""What metrics are made of: plain attributes that a device counts up and nobody else writes.

A counters class names in ``__slots__`` exactly the fields of its group in Firecracker's metrics;
a name that ends in ``_agg`` is a :class:`Latency`, every other an integer that starts at 0.
"""

from __future__ import annotations


class Latency:
    """Shortest, longest and summed time of one kind of event, in ns."""

    __slots__ = ("count", "max", "min", "sum")

    def __init__(self) -> None:
        self.count = 0
        self.min = 0
        self.max = 0
        self.sum = 0

    def add(self, ns: int) -> None:
        """Count one event.  hot: per exit."""
        self.count += 1
        self.sum += ns
        if ns > self.max:
            self.max = ns
        if ns < self.min or self.count == 1:
            self.min = ns

    def merge(self, other: Latency) -> None:
        """Count another's events too."""
        if other.count:
            self.min = min(self.min, other.min) if self.count else other.min
            self.max = max(self.max, other.max)
            self.count += other.count
            self.sum += other.sum


class Counters:
    """Base of the counters classes."""

    __slots__: tuple[str, ...] = ()

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, Latency() if name.endswith("_agg") else 0)
