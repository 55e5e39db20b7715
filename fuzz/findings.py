"""What went wrong: each kind of failure once, with the input that shows it."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from fuzz import corpus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = Path(__file__).resolve().parent / "findings"


class Findings:
    """The failures of one target.  The same exception at the same line is the same failure."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.seen: set[tuple[str, str, int]] = set()

    def run(self, one_input: Callable[[bytes], object], data: bytes) -> bool:
        """Call ``one_input(data)``; whether it failed.  A new failure is saved and printed."""
        try:
            one_input(data)
        except Exception as error:
            self._record(error, data)
            return True
        return False

    def _record(self, error: Exception, data: bytes) -> None:
        last = traceback.extract_tb(error.__traceback__)[-1]
        key = type(error).__name__, last.filename, last.lineno or 0
        if key in self.seen:
            return
        self.seen.add(key)
        path = corpus.save(FOLDER / self.target, data)
        traceback.print_exception(error)
        print(
            f"{self.target}: {type(error).__name__} with {len(data)} bytes; again by\n"
            f"  python fuzz/run.py {self.target} --reproduce {path}",
            file=sys.stderr,
            flush=True,
        )
