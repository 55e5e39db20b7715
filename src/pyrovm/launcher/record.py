"""Records: fields ``name=value``, each ended by NUL; names may repeat, numbers are decimal."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

Fields = dict[str, list[str]]


def pack(fields: Iterable[tuple[str, str]], most: int) -> bytes:
    """A record of at most ``most`` bytes.

    Raises:
        ValueError: a value has a NUL byte, or all of them are too long; says which.
    """
    data = bytearray()
    for name, value in fields:
        raw = os.fsencode(value)
        if b"\0" in raw:
            raise ValueError(f"{name}: {value[:80]!r} has a NUL byte")
        data += name.encode() + b"=" + raw + b"\0"
    if len(data) > most:
        raise ValueError(f"{len(data)} bytes of arguments and options; {most} are allowed")
    return bytes(data)


def unpack(data: bytes) -> Fields:
    """The fields of a record; what follows the last NUL is none."""
    fields: Fields = {}
    for part in data.split(b"\0")[:-1]:
        name, _, value = part.partition(b"=")
        fields.setdefault(name.decode("ascii", "replace"), []).append(os.fsdecode(value))
    return fields
