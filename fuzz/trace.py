"""Which lines of pyrovm an input reaches: what makes one input worth keeping beside another."""

from __future__ import annotations

import sys
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import CodeType, FrameType
    from typing import Any

    Lines = set[tuple[CodeType, int]]

ROOT = str(Path(__file__).resolve().parent.parent / "src" / "pyrovm")


def traced(call: Callable[[], object]) -> Lines:
    """The lines of pyrovm that ``call()`` runs; what it raises, it raises."""
    lines: Lines = set()

    def on_line(frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            lines.add((frame.f_code, frame.f_lineno))
        return on_line

    def on_call(frame: FrameType, _event: str, _argument: Any) -> Any:
        return on_line if frame.f_code.co_filename.startswith(ROOT) else None

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        call()
    finally:
        sys.settrace(before)
    return lines


def minimised(one_input: Callable[[bytes], object], inputs: Iterable[bytes]) -> list[bytes]:
    """The smallest inputs first, without those that reach no line that the kept ones do not.

    An input that fails is no corpus: it is left out.
    """
    kept: list[bytes] = []
    known: Lines = set()
    for data in sorted(set(inputs), key=lambda data: (len(data), data)):
        try:
            lines = traced(lambda data=data: one_input(data))  # type: ignore[misc]
        except Exception:  # a finding, not an example; the run that met it has reported it
            continue
        if not lines <= known:
            known |= lines
            kept.append(data)
    return kept
