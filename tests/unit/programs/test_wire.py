"""Records between the caller and its helper."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.programs import wire

NAMES = st.text("abcdefghij", min_size=1)
VALUES = st.text().filter(lambda text: "\0" not in text and text.isprintable())


def receive(data):
    """As from a socket that gives one byte at a time."""
    pieces = (data[at : at + 1] for at in range(len(data)))
    return wire.receive(lambda size: next(pieces, b""))


@given(st.lists(st.tuples(NAMES, VALUES)))
def test_what_is_encoded_is_received(fields):
    expected = {}
    for name, value in fields:
        expected.setdefault(name, []).append(value)
    assert receive(wire.encode(fields)) == expected


def test_a_name_of_any_bytes_survives():
    assert receive(wire.encode([("path", "\udcff=x")])) == {"path": ["\udcff=x"]}


def test_what_cannot_be_sent_is_named():
    with pytest.raises(ValueError, match=r"env: .* NUL"):
        wire.encode([("env", "A=\0")])
    with pytest.raises(ValueError, match="1048576 are allowed"):
        wire.encode([("argv", "x" * wire.RECORD_MAX)])


@given(st.binary(max_size=64))
def test_any_bytes_are_a_record_or_broken(data):
    try:
        fields = receive(data)
    except wire.BrokenRecord:
        return
    assert all(isinstance(value, str) for values in fields.values() for value in values)


def test_a_record_that_ends_early_or_is_too_long_is_refused():
    with pytest.raises(wire.BrokenRecord, match="ends after"):
        receive(wire.encode([("a", "b")])[:-1])
    with pytest.raises(wire.BrokenRecord, match="allowed"):
        receive(b"\xff\xff\xff\xff")
