"""The base of all records: plain attributes, equality, a readable form."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Record:
    """A value with named fields.  A record is not changed once made: a change makes a new one."""

    __slots__: tuple[str, ...] = ()
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({fields})"

    def to_json(self) -> Any:
        """What the API prints for this record: dicts in the API's key order, lists, scalars."""
        raise NotImplementedError(f"{type(self).__name__} is never printed")


def json_or_null(record: Record | None) -> Any:
    """The JSON of an optional record."""
    return None if record is None else record.to_json()
