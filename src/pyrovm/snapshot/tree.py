"""Plain data with bytes in it, as one run of bytes: JSON, and the bytes behind it.

A leaf of bytes stands in the JSON as ``{"$bytes": [offset, size]}``, counted from the JSON's end.
The C half of the ``json`` module does the work: the other half takes 8 ms to import.
"""

from __future__ import annotations

from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

BYTES = "$bytes"
DEPTH_MAX = 64  # levels; whoever walks over the data may do so by recursion
_LENGTH = Struct("<I")  # of the JSON


class TreeError(ValueError):
    """The data cannot be written, or what was read is no such data; says where or why."""


def encode(value: Any) -> bytes:
    """``value``: None, bool, int, finite float, str, bytes-like, list, tuple, dict by str.

    Raises:
        TreeError: something in it is none of these; names the place.
    """
    blobs: list[bytes] = []
    plain = _Encoding(blobs).plain(value, "")
    text = "".join(_text_of(plain, 0)).encode()
    return _LENGTH.pack(len(text)) + text + b"".join(blobs)


def decode(data: bytes) -> Any:
    """What :func:`encode` was given, with lists for tuples and bytes for bytes-likes.

    Raises:
        TreeError: it is not what encode makes.
    """
    if len(data) < _LENGTH.size:
        raise TreeError(f"{len(data)} bytes; at least {_LENGTH.size} are needed")
    (length,) = _LENGTH.unpack_from(data)
    start = _LENGTH.size + length
    if start > len(data):
        raise TreeError(f"{length} bytes of JSON promised, {len(data) - _LENGTH.size} are there")
    blobs = memoryview(data)[start:]

    def unpack(found: dict[str, Any]) -> Any:
        if BYTES not in found:
            return found
        place = found[BYTES]
        match place:
            case [int(offset), int(size)] if offset >= 0 and 0 <= size <= len(blobs) - offset:
                return bytes(blobs[offset : offset + size])
        raise TreeError(f"{BYTES} {place!r} is outside of the {len(blobs)} bytes behind the JSON")

    value = _value_of(data[_LENGTH.size : start], unpack)
    _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEPTH_MAX):
        level = [item for each in level for item in _items(each)]
        if not level:
            return
    raise TreeError(f"nested deeper than {DEPTH_MAX} levels")


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


class _Encoding:
    """One walk over the data; collects the bytes."""

    def __init__(self, blobs: list[bytes]) -> None:
        self._blobs = blobs
        self._end = 0

    def plain(self, value: Any, where: str) -> Any:
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, float):
            if value - value != 0.0:
                raise TreeError(f"{where or 'value'}: {value} cannot be saved")
            return value
        if isinstance(value, dict):
            return {
                self._key(key, where): self.plain(v, f"{where}.{key}") for key, v in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
        if isinstance(value, (bytes, bytearray, memoryview)):
            blob = bytes(value)
            self._blobs.append(blob)
            self._end += len(blob)
            return {BYTES: [self._end - len(blob), len(blob)]}
        raise TreeError(f"{where or 'value'}: {type(value).__name__} cannot be saved")

    def _key(self, key: Any, where: str) -> str:
        if not isinstance(key, str) or key == BYTES:
            raise TreeError(
                f"{where or 'value'}: key {key!r} cannot be saved; text other than {BYTES}"
            )
        return key


def _refuse_constant(word: str) -> float:
    raise TreeError(f"{word} is no JSON")


def _make_codec() -> tuple[Callable[[Any, int], Any], Callable[[bytes, Any], Any]]:
    import _json

    c: Any = _json  # private to json; the same from 3.11 to 3.14

    def to_value(text: bytes, hook: Callable[[dict[str, Any]], Any]) -> Any:
        class Context:
            strict = True
            object_hook = staticmethod(hook)
            object_pairs_hook = None
            parse_float, parse_int, parse_constant = float, int, staticmethod(_refuse_constant)
            memo: dict[str, str] = {}  # noqa: RUF012  (as JSONDecoder has it)

        try:
            decoded = text.decode()
            value, end = c.make_scanner(Context)(decoded, 0)
        except TreeError:
            raise
        except StopIteration as error:
            raise TreeError(f"no JSON value at character {error.value}") from None
        except (ValueError, RecursionError) as error:  # JSONDecodeError, UnicodeDecodeError
            raise TreeError(f"no JSON: {error}") from None
        if end != len(decoded):
            raise TreeError(f"{len(decoded) - end} characters behind the JSON value")
        return value

    to_text = c.make_encoder(
        None, None, c.encode_basestring_ascii, None, ":", ",", False, False, False
    )
    return to_text, to_value


_text_of, _value_of = _make_codec()
