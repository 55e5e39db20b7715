"""On what terms a question is answered: how often, how long, beside whom."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator

Show = Callable[[str], None]
FEWEST = 3  # rounds, however long they take


@dataclasses.dataclass(frozen=True)
class Terms:
    """Given to a question; ``show`` is where it may say how far it is."""

    show: Show
    quick: bool = False
    peers: frozenset[str] | None = None  # None: all that are installed
    budget_s: float = 60.0

    def count(self, full: int, quick: int = FEWEST) -> int:
        """How many, ``full`` unless it is to be quick."""
        return min(quick, full) if self.quick else full

    def rounds(
        self, full: int, what: str, *, quick: int = FEWEST, share: float = 1.0
    ) -> Iterator[int]:
        """Numbers from 0, ``full`` of them, fewer when ``share`` of the budget is used up.

        Each is shown with ``what`` is measured.
        """
        end = time.monotonic() + share * self.budget_s
        count = self.count(full, quick)
        for number in range(count):
            if number >= min(FEWEST, count) and time.monotonic() > end:
                return
            self.show(f"{what}: round {number + 1} of {count}")
            yield number

    def wants(self, peer: str) -> bool:
        """Whether the peer shall be measured, if it is there."""
        return self.peers is None or peer in self.peers
