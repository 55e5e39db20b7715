"""What two snapshots differ in."""

from __future__ import annotations

import os

from pyrovm.errors import HostError, SnapshotError
from pyrovm.snapshot import pages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyrovm.snapshot.pages import Range
    from pyrovm.snapshot.state import State

_PIECE = 1 << 20
_ABSENT = object()


class Change:
    """A value that differs: ``where`` is a path such as ``vcpu.0.regs``; the others are for people.

    ``before`` or ``after`` is empty where there is no such value.
    """

    __slots__ = ("after", "before", "where")

    def __init__(self, where: str, before: str, after: str) -> None:
        self.where = where
        self.before = before
        self.after = after


def sections(first: State, second: State) -> list[Change]:
    """Every leaf of the sections that is not the same in both, but for samples of memory."""
    found = _changes(first.values, second.values, "")
    return [change for change in found if not change.where.startswith("memory.samples")]


def _changes(first: Any, second: Any, where: str) -> Iterator[Change]:
    if isinstance(first, dict) and isinstance(second, dict):
        for key in dict.fromkeys([*first, *second]):
            inner = f"{where}.{key}" if where else key
            yield from _changes(first.get(key, _ABSENT), second.get(key, _ABSENT), inner)
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            yield from _changes(one, other, f"{where}[{index}]")
    elif isinstance(first, bytes) and isinstance(second, bytes) and len(first) == len(second):
        differing = [i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
        if differing:
            at = differing[0]
            which = f"{len(differing)} of {len(first)} bytes, from {at:#x} on: "
            yield Change(where, which + first[at : at + 8].hex(" "), second[at : at + 8].hex(" "))
    elif type(first) is not type(second) or first != second:
        yield Change(where, _text(first), _text(second))


def _text(value: Any) -> str:
    if value is _ABSENT:
        return ""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, (dict, list)):
        return f"{len(value)} entries"
    return repr(value)


def memory(first: str, second: str) -> list[Range]:
    """The pages of two memory files that are not the same, as ranges.

    Raises:
        HostError: one cannot be read.
        SnapshotError: one is longer.
    """
    try:
        with open(first, "rb", buffering=0) as a, open(second, "rb", buffering=0) as b:
            sizes = [os.lseek(file.fileno(), 0, os.SEEK_END) for file in (a, b)]
            if sizes[0] != sizes[1]:
                raise SnapshotError(
                    f"{first} has {sizes[0]} bytes, {second} {sizes[1]}: not of one guest"
                )
            data = [pages.data_of(file.fileno(), 0, sizes[0]) for file in (a, b)]
            return list(_differing(a.fileno(), b.fileno(), pages.union(*data)))
    except OSError as error:
        raise HostError.wrap(f"{first}, {second}", error) from None


def _differing(first: int, second: int, ranges: list[Range]) -> Iterator[Range]:
    start = end = -1  # of the run of pages that differ
    for begin, stop in ranges:
        for at in range(begin, stop, _PIECE):
            size = min(_PIECE, stop - at)
            one, other = os.pread(first, size, at), os.pread(second, size, at)
            if one == other:
                continue
            for page in range(0, size, pages.PAGE):
                if one[page : page + pages.PAGE] != other[page : page + pages.PAGE]:
                    if at + page != end:
                        if end >= 0:
                            yield start, end
                        start = at + page
                    end = at + page + pages.PAGE
    if end >= 0:
        yield start, end
