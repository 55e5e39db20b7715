"""The JSON reader and writer, against Python's own."""

from __future__ import annotations

import json
import math
from typing import Any

from pyrovm.config.serde.reader import JsonError, Reader
from pyrovm.config.serde.value import parse_value, skip_value
from pyrovm.config.serde.writer import dumps


def one_input(data: bytes) -> None:
    """What is JSON reads as it does elsewhere, and is written so that it reads the same again;
    what is not is refused with a place that exists.
    """
    is_passed = _is_passed(data)
    try:
        value = parse_value(data)
    except JsonError as error:
        _check_place(error, data)
        assert not _is_json(data), f"refused, but it is JSON: {error}"
        return
    assert _same(value, json.loads(data)), "read differently"
    assert is_passed
    text = dumps(value)
    assert dumps(parse_value(text.encode())) == text
    assert _same(json.loads(text), value)


def _is_passed(data: bytes) -> bool:
    """Whether the text is passed over where nobody wants its value: also where strings are not
    quite right, or the nesting is deep.
    """
    reader = Reader(data)
    try:
        skip_value(reader)
        reader.end()
    except JsonError as error:
        _check_place(error, data)
        return False
    return True


def _check_place(error: JsonError, data: bytes) -> None:
    lines = data.split(b"\n")
    assert 1 <= error.line <= len(lines)
    assert 0 <= error.column <= len(lines[error.line - 1]) + 1
    assert str(error).endswith(f"at line {error.line} column {error.column}")


def _is_json(data: bytes) -> bool:
    """Whether Python takes it for JSON that is also ours: no deep nesting, no infinities, no
    surrogates, nothing but UTF-8.
    """
    try:
        value = json.loads(data.decode(), parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return _depth(value) < 128 and _is_finite(value)


def _refuse(text: str) -> None:
    raise ValueError(text)


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    if isinstance(value, int):
        return math.isfinite(_float(value))
    return not isinstance(value, float) or math.isfinite(value)


def _float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _same(ours: Any, other: Any) -> bool:
    """Equal, types included; an integer of more than 64 bits is a float here."""
    if isinstance(ours, dict):
        return (
            isinstance(other, dict)
            and ours.keys() == other.keys()
            and all(_same(ours[key], other[key]) for key in ours)
            and list(ours) == sorted(ours)
        ) or (isinstance(other, dict) and not ours and not other)
    if isinstance(ours, list):
        return isinstance(other, list) and len(ours) == len(other) and all(map(_same, ours, other))
    if isinstance(ours, float) and isinstance(other, int):
        return ours == _float(other) and (not -(1 << 63) <= other < 1 << 64 or other == 0)
    return type(ours) is type(other) and ours == other


SEEDS = [
    b'{"a":[1,-2,3.5e-7,true,false,null],"b":{"c":"\\u00e9\\n\\ud83d\\ude00"}}',
    b"[" * 130 + b"]" * 130,
    b" [ 1 , 2 ] \n",
    b'"\\q"',
    b"18446744073709551616",
    b"-0",
    b"1e400",
    b'{"a":1,"a":2}',
    b'{"a" 1}',
]
WORDS = (
    *(b"{", b"}", b"[", b"]", b":", b",", b'"', b"\\", b"\\u", b"\\ud83d", b"\\ude00", b"null"),
    *(b"true", b"false", b"-", b"0", b"1e9", b".5", b"E+", b" ", b"\n", b'"a":', b"\xc3\xa9"),
)
