"""Values as data: what goes in comes out, what an enemy sends is refused."""

import datetime
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.programs.codec import DEPTH_MAX, MAGIC, CodecError, decode, encode

HASHABLE = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.times()
    | st.datetimes(
        timezones=st.none()
        | st.integers(-1439, 1439).map(
            lambda minutes: datetime.timezone(datetime.timedelta(minutes=minutes))
        )
    )
    | st.timedeltas()
    | st.complex_numbers(allow_nan=False)
)
# Deferred: their descriptions would be very long otherwise.
KEYS = st.deferred(lambda: HASHABLE | st.lists(KEYS).map(tuple) | st.frozensets(KEYS))
VALUES = st.deferred(
    lambda: (
        KEYS
        | st.integers()
        | st.binary().map(bytearray)
        | st.lists(VALUES)
        | st.lists(VALUES).map(tuple)
        | st.sets(KEYS)
        | st.dictionaries(KEYS, VALUES)
    )
)
TAGS = (
    *("dict", "set", "frozenset", "tuple", "bytes", "bytearray", "int", "float", "complex"),
    *("date", "time", "datetime", "timedelta"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
        | st.tuples(
            st.sampled_from(TAGS),
            inner,
        ).map(lambda pair: {pair[0]: pair[1]})
    ),
)


def frame(text, *blobs, lengths=None):
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    lengths = [len(blob) for blob in blobs] if lengths is None else lengths
    head = MAGIC + struct.pack("<QI", len(text), len(lengths))
    return b"".join([head, *(struct.pack("<Q", size) for size in lengths), text, *blobs])


def same(one, other):
    """Equal, and of equal types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            same(key, there) and same(one[key], other[there])
            for key, there in zip(one, other, strict=True)
        )
    return one == other and (isinstance(one, set | frozenset) or repr(one) == repr(other))


@given(VALUES)
def test_a_value_comes_back_as_it_was(value):
    back = decode(encode(value))
    assert back == value
    assert same(value, back)


def test_values_that_are_not_equal_to_themselves():
    assert repr(decode(encode([float("nan"), float("-inf"), -0.0]))) == "[nan, -inf, -0.0]"
    assert repr(decode(encode(complex("nan+infj")))) == "(nan+infj)"


def test_a_number_of_any_length():
    value = -(7**100_000)
    assert decode(encode(value)) == value


class Text(str):
    pass


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), r"the value: builtins\.object"),
        ([1, {"a": (print,)}], r"the value\[1\]\['a'\]\[0\]: builtins\.builtin_function"),
        ({object: 1}, "the key"),
        (Text("x"), "Text"),
        (range(3), "range"),
        (memoryview(b"x"), "memoryview"),
        (ValueError(), "ValueError"),
    ],
)
def test_what_cannot_be_passed_is_named(value, words):
    with pytest.raises(TypeError, match=words):
        encode(value)


def test_a_value_within_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(TypeError, match=f"deeper than {DEPTH_MAX}"):
        encode(value)


def test_the_deepest_value_comes_back():
    value = 1
    for _ in range(DEPTH_MAX):
        value = [value]
    assert decode(encode(value)) == value
    with pytest.raises(TypeError):
        encode([value])


@given(st.binary())
def test_any_bytes_are_a_value_or_refused(data):
    with pytest.raises(CodecError):
        decode(data)


@given(JSON, st.lists(st.binary(max_size=8), max_size=3))
def test_any_text_and_blobs_are_a_value_or_refused(tree, blobs):
    try:
        value = decode(frame(tree, *blobs))
    except CodecError:
        return
    encode(value)  # nothing but what can be passed


@given(VALUES, st.data())
def test_a_changed_frame_is_a_value_or_refused(value, data):
    raw = bytearray(encode(value))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    try:
        encode(decode(raw))
    except CodecError:
        pass


@given(VALUES, st.data())
def test_a_frame_that_ends_early_is_refused(value, data):
    raw = encode(value)
    with pytest.raises(CodecError):
        decode(raw[: data.draw(st.integers(0, len(raw) - 1))])
    with pytest.raises(CodecError):
        decode(raw + b"x")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"pvm0" + bytes(12),
        MAGIC + b"\xff" * 12,
        MAGIC + struct.pack("<QI", 0, 0xFFFFFFFF),
        frame(b"null", lengths=[1 << 63]),
        frame(b"null", b"unused"),
        frame({"bytes": 0}),
        frame({"bytes": True}, b"", b""),
        frame({"bytes": -1}, b"x"),
        frame([{"bytes": 0}, {"bytes": 0}], b"x"),
        frame({"bytes": 0.0, "x": 1}, b"x"),
        frame(b"[" * 100_000),
        frame(b'{"tuple":' * 100_000),
        frame(b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1)),
        frame(b"9" * 100_000),
        frame(b"\xff"),
        frame({"dict": [1]}),
        frame({"dict": [[], 1]}),
        frame({"set": [[]]}),
        frame({"set": [{"int": "0x1" + "0" * 40}]}),
        frame({"dict": {"a": 1}}),
        frame({"tuple": "ab"}),
        frame({"int": "0y"}),
        frame({"int": 5}),
        frame({"float": "1e400"}),
        frame({"date": "2020-13-01"}),
        frame({"date": ["2020-01-01"]}),
        frame({"timedelta": [1, 2]}),
        frame({"timedelta": [True, 1, 1]}),
        frame({"timedelta": [10**30, 0, 0]}),
        frame({"complex": "x"}),
        frame({"__class__": "os.system"}),
        frame({}),
    ],
)
def test_what_an_enemy_may_send_is_refused(data):
    with pytest.raises(CodecError):
        decode(data)
