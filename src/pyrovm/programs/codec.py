"""Values as data, between a caller and a function in a VM; the same file serves both sides.

Of exactly these types, in any combination: None, bool, int, float, complex, str, bytes, bytearray,
list, tuple, dict, set, frozenset, and of ``datetime``: date, time, datetime (time zones become
fixed offsets), timedelta.  Nothing that is decoded is ever called or looked up by name.

A frame is MAGIC, the length of a JSON text (8 bytes, little-endian), the number of blobs (4) and
the length of each (8), the text, the blobs.  In the text null, true, numbers of up to 64 bits,
strings and arrays stand for themselves; all else is an object with one member, whose name tells the
type.  The n-th ``bytes`` or ``bytearray`` is the n-th blob.
"""

from __future__ import annotations

import math
import struct
import sys

MAGIC = b"pvm1"
DEPTH_MAX = 100  # containers in containers
_HEADER = struct.Struct("<4sQI")
_LENGTH = struct.Struct("<Q")
_SMALL = 1 << 63

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def dumps(tree: object) -> str:
    """JSON; imported when it is needed, for inside a VM there is a faster way."""
    import json

    return json.dumps(tree, allow_nan=False, separators=(",", ":"))


def loads(text: bytes) -> Any:
    """The other way round."""
    import json

    return json.loads(text)


class CodecError(ValueError):
    """What came is no value."""


class Encoder:
    """Makes one frame."""

    def __init__(self) -> None:
        self._blobs: list[bytes | bytearray] = []

    def frame(self, tree: object) -> bytes:
        """The frame of what :meth:`tree` has made."""
        text = dumps(tree).encode()
        lengths = [_LENGTH.pack(len(blob)) for blob in self._blobs]
        header = _HEADER.pack(MAGIC, len(text), len(lengths))
        return b"".join([header, *lengths, text, *self._blobs])

    def tree(self, value: Any, where: str, depth: int = 0) -> object:
        """A value as JSON has it; ``where`` names it for errors.

        Raises:
            TypeError: it, or a part of it, cannot be passed; says which.
        """
        kind: type[Any] = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if kind is int:
            return value if -_SMALL <= value < _SMALL else {"int": hex(value)}
        if kind is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if kind is bytes or kind is bytearray:
            self._blobs.append(value)
            return {kind.__name__: len(self._blobs) - 1}
        if depth >= DEPTH_MAX:
            raise TypeError(f"{where}: nested deeper than {DEPTH_MAX}, or within itself")
        if kind is dict:
            pairs = []
            for key, item in value.items():
                pairs.append(self.tree(key, f"{where}: the key {key!r:.80}", depth + 1))
                pairs.append(self.tree(item, f"{where}[{key!r:.80}]", depth + 1))
            return {"dict": pairs}
        if kind in (list, tuple, set, frozenset):
            items = [self.tree(item, f"{where}[{n}]", depth + 1) for n, item in enumerate(value)]
            return items if kind is list else {kind.__name__: items}
        if kind is complex:
            return {"complex": repr(value)}
        return self._time(value, kind, where)

    def _time(self, value: Any, kind: type[object], where: str) -> object:
        datetime = sys.modules.get("datetime")
        if datetime is not None:
            if kind in (datetime.datetime, datetime.date, datetime.time):
                return {kind.__name__: value.isoformat() + "~" * getattr(value, "fold", 0)}
            if kind is datetime.timedelta:
                return {"timedelta": [value.days, value.seconds, value.microseconds]}
        raise TypeError(f"{where}: {kind.__module__}.{kind.__qualname__} cannot be passed")


def encode(value: object, where: str = "the value") -> bytes:
    """The frame of one value.

    Raises:
        TypeError: it, or a part of it, cannot be passed; says which.
    """
    encoder = Encoder()
    return encoder.frame(encoder.tree(value, where))


def decode(data: bytes | bytearray) -> Any:
    """The value of a frame, which may come from an enemy.

    Raises:
        CodecError: it is none.
    """
    view = memoryview(data)
    if len(view) < _HEADER.size:
        raise CodecError(f"{len(view)} bytes are no value")
    magic, size, count = _HEADER.unpack_from(view)
    start = _HEADER.size + count * _LENGTH.size
    if magic != MAGIC or start + size > len(view):
        raise CodecError("no value, or only the beginning of one")
    at = start + size
    blobs = []
    for number in range(count):
        (length,) = _LENGTH.unpack_from(view, _HEADER.size + number * _LENGTH.size)
        blobs.append(view[at : at + length])
        at += length
    if at != len(view):
        raise CodecError(f"{len(view)} bytes, where there should be {at}")
    try:
        tree = loads(bytes(view[start : start + size]))
    except (ValueError, RecursionError) as error:
        raise CodecError(f"no value: {str(error)[:200]}") from None
    decoder = _Decoder(blobs)
    try:
        value = decoder.value(tree)
    except (TypeError, ValueError, OverflowError) as error:  # a list as a key, the year 0
        raise CodecError(f"no value: {str(error)[:200]}") from None
    decoder.check_end()
    return value


class _Decoder:
    def __init__(self, blobs: Sequence[memoryview]) -> None:
        self._blobs = blobs
        self._used = 0

    def check_end(self) -> None:
        if self._used != len(self._blobs):
            raise CodecError("there are more blobs than values for them")

    def value(self, tree: Any, depth: int = 0) -> Any:
        if type(tree) is list:
            return self._items(tree, depth)
        if type(tree) is not dict:
            return tree
        if len(tree) != 1:
            raise CodecError(f"an object with {len(tree)} members")
        ((name, body),) = tree.items()
        if name == "dict":
            items = self._items(body, depth)
            if len(items) % 2:
                raise CodecError("a key without a value")
            return dict(zip(map(_hashed, items[::2]), items[1::2], strict=True))
        if name == "tuple":
            return tuple(self._items(body, depth))
        if name in ("set", "frozenset"):
            return {"set": set, "frozenset": frozenset}[name](
                map(_hashed, self._items(body, depth))
            )
        if name in ("bytes", "bytearray"):
            return self._blob(name, body)
        return _scalar(name, body)

    def _items(self, body: object, depth: int) -> list[Any]:
        if type(body) is not list:
            raise CodecError("a container without items")
        if depth >= DEPTH_MAX:
            raise CodecError(f"nested deeper than {DEPTH_MAX}")
        return [self.value(item, depth + 1) for item in body]

    def _blob(self, name: str, number: object) -> bytes | bytearray:
        # Each once: a thousand names for one blob would be a thousand copies.
        if number is True or number != self._used or number >= len(self._blobs):
            raise CodecError(f"a blob {str(number)[:80]}, where {self._used} belongs")
        blob = self._blobs[self._used]
        self._used += 1
        return bytes(blob) if name == "bytes" else bytearray(blob)


def _hashed(key: Any) -> Any:
    # Of longer numbers, as many as one likes have the same hash.
    if type(key) is int and not -_SMALL <= key < 2 * _SMALL:
        raise CodecError("a key of more than 64 bits")
    return key


def _scalar(name: str, body: Any) -> object:
    if name == "timedelta":
        if type(body) is not list or [type(part) for part in body] != [int] * 3:
            raise CodecError("a timedelta of other than three numbers")
        from datetime import timedelta

        return timedelta(*body)
    if type(body) is not str:
        raise CodecError(f"an object {name[:80]!r}")
    if name == "int":
        return int(body, 16)
    if name == "float":
        if body not in ("nan", "inf", "-inf"):
            raise CodecError(f"a float {body[:80]!r}")
        return float(body)
    if name == "complex":
        return complex(body)
    if name in ("date", "time", "datetime"):
        import datetime

        kinds: dict[str, Any] = {
            "date": datetime.date,
            "time": datetime.time,
            "datetime": datetime.datetime,
        }
        text = body.removesuffix("~")  # fold, of which ISO 8601 knows nothing
        found = kinds[name].fromisoformat(text)
        return found if text == body else found.replace(fold=1)
    raise CodecError(f"an object {name[:80]!r}")
