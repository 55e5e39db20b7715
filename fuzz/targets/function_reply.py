"""What a function in a VM sends as its result: a frame, or a text and blobs to make one of."""

from __future__ import annotations

import struct
from datetime import date, datetime, time, timedelta
from typing import Any

from pyrovm.programs import codec
from pyrovm.programs.errors import FunctionError
from pyrovm.programs.function import result_of

SCALARS = {bool, int, float, complex, str, bytes, bytearray, date, time, datetime, timedelta}
CONTAINERS = {list, tuple, set, frozenset}


def one_input(data: bytes) -> None:
    """Either a FunctionError with texts, or a value of plain types that can be sent back."""
    _answer(data)
    text, *blobs = data.split(b"\n")
    _answer(_frame(text, *blobs))


def _answer(answer: bytes) -> None:
    try:
        value = result_of("f", answer)
    except FunctionError as error:
        for part in (error.type, error.message, error.traceback, str(error)):
            assert type(part) is str
        return
    _check(value)
    # Its parts are never more than what has come: no blob stands for many.
    assert len(codec.encode(value)) <= 8 * len(answer)


def _check(value: Any) -> None:
    if type(value) is dict:
        for key, item in value.items():
            _check(key)
            _check(item)
    elif type(value) in CONTAINERS:
        for item in value:
            _check(item)
    else:
        assert value is None or type(value) in SCALARS


def _frame(text: bytes, *blobs: bytes) -> bytes:
    head = codec.MAGIC + struct.pack("<QI", len(text), len(blobs))
    return head + b"".join(struct.pack("<Q", len(blob)) for blob in blobs) + text + b"".join(blobs)


VALUE = {
    "value": [
        *(None, True, -1, 2**70, 0.5, float("nan"), 1j, "ä", b"bytes", bytearray(b"more")),
        *((1, 2), {3}, frozenset({4}), {"k": {(1, "x"): []}}),
        *(date(2020, 2, 29), time(1, 2, 3), datetime(2020, 1, 1, fold=1), timedelta(-1, 2)),
    ]
}
SEEDS = [
    codec.encode(VALUE),
    codec.encode({"error": {"type": "ValueError", "message": "no", "traceback": "Traceback"}}),
    b'{"dict":["value",[{"bytes":0},{"bytearray":1}]]}\nfirst\nsecond',
    b'{"dict":["value",{"dict":[{"tuple":[1,{"int":"0xff"}]},{"float":"inf"}]}]}',
    b'{"dict":["value",[{"datetime":"2020-01-01T00:00:00+01:00~"},{"timedelta":[1,2,3]}]]}',
]
WORDS = [f'{{"{name}":'.encode() for name in ("dict", "tuple", "set", "frozenset", "bytes", "int")]
WORDS += [b"[", b"]", b"}", b",", b'"', b"\\ud800", b"NaN", b"Infinity", b"1e999", b'"value"', b"~"]
