"""JSON of any shape with serde_json's rules: what is accepted, what is said, and where."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.config.serde.reader import JsonError
from pyrovm.config.serde.text import float_text, quoted
from pyrovm.config.serde.value import parse_value
from pyrovm.config.serde.writer import dumps
from tests.unit.config.json_texts import JSON_VALUES, TEXTS, outcome


def value_error(text):
    with pytest.raises(JsonError) as caught:
        parse_value(text if isinstance(text, bytes) else text.encode())
    return str(caught.value)


# ----------------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "EOF while parsing a value at line 1 column 0"),
        (" \n ", "EOF while parsing a value at line 2 column 1"),
        ("x", "expected value at line 1 column 1"),
        ("nul", "EOF while parsing a value at line 1 column 3"),
        ("nuls", "expected ident at line 1 column 4"),
        ("truE", "expected ident at line 1 column 4"),
        ("fals", "EOF while parsing a value at line 1 column 4"),
        ("null null", "trailing characters at line 1 column 6"),
        ("1\n\n 2", "trailing characters at line 3 column 2"),
        ("[", "EOF while parsing a list at line 1 column 1"),
        ("[1", "EOF while parsing a list at line 1 column 2"),
        ("[1,", "EOF while parsing a value at line 1 column 3"),
        ("[1,]", "trailing comma at line 1 column 4"),
        ("[1 2]", "expected `,` or `]` at line 1 column 4"),
        ("[}", "expected value at line 1 column 2"),
        ("{", "EOF while parsing an object at line 1 column 1"),
        ('{"a"', "EOF while parsing an object at line 1 column 4"),
        ('{"a" 1}', "expected `:` at line 1 column 6"),
        ('{"a":', "EOF while parsing a value at line 1 column 5"),
        ('{"a":1', "EOF while parsing an object at line 1 column 6"),
        ('{"a":1,', "EOF while parsing a value at line 1 column 7"),
        ('{"a":1,}', "trailing comma at line 1 column 8"),
        ('{"a":1 "b"}', "expected `,` or `}` at line 1 column 8"),
        ('{"a":1,2}', "key must be a string at line 1 column 8"),
        ("{1:2}", "key must be a string at line 1 column 2"),
        ("-", "EOF while parsing a value at line 1 column 1"),
        ("-x", "invalid number at line 1 column 2"),
        ("01", "invalid number at line 1 column 2"),
        ("-01", "invalid number at line 1 column 3"),
        ("1.", "EOF while parsing a value at line 1 column 2"),
        ("1.x", "invalid number at line 1 column 3"),
        ("1e", "EOF while parsing a value at line 1 column 2"),
        ("1e+", "EOF while parsing a value at line 1 column 3"),
        ("1ex", "invalid number at line 1 column 3"),
        ("1e999", "number out of range at line 1 column 5"),
        ("9" * 400, "number out of range at line 1 column 400"),
        ('"', "EOF while parsing a string at line 1 column 1"),
        ('"abc', "EOF while parsing a string at line 1 column 4"),
        ('"a\\', "EOF while parsing a string at line 1 column 3"),
        ('"\\x"', "invalid escape at line 1 column 3"),
        ('"\\u12', "EOF while parsing a string at line 1 column 5"),
        ('"\\u12g4"', "invalid escape at line 1 column 7"),
        ('"\\u 123"', "invalid escape at line 1 column 7"),
        ('"\\udc00"', "lone leading surrogate in hex escape at line 1 column 7"),
        ('"\\ud800"', "unexpected end of hex escape at line 1 column 8"),
        ('"\\ud800\\n"', "unexpected end of hex escape at line 1 column 9"),
        ('"\\ud800\\u0041"', "lone leading surrogate in hex escape at line 1 column 13"),
        (
            '"a\nb"',
            "control character (\\u0000-\\u001F) found while parsing a string at line 2 column 0",
        ),
        (
            '"\\n\x01"',
            "control character (\\u0000-\\u001F) found while parsing a string at line 1 column 4",
        ),
        (b'"\xff"', "invalid unicode code point at line 1 column 3"),
        (b'"\\n\xed\xa0\x80"', "invalid unicode code point at line 1 column 7"),
        ("[" * 128, "recursion limit exceeded at line 1 column 128"),
        ('{"a":' * 128, "recursion limit exceeded at line 1 column 636"),
    ],
)
def test_what_is_wrong_and_where(text, message):
    assert value_error(text) == message


def test_nesting_of_127_levels_is_allowed():
    assert parse_value(b"[" * 127 + b"]" * 127)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18446744073709551615", 18446744073709551615),
        ("18446744073709551616", 18446744073709551616.0),
        ("-9223372036854775808", -9223372036854775808),
        ("-9223372036854775809", -9223372036854775809.0),
        ("0", 0),
        ("1.50", 1.5),
        ("1E2", 100.0),
        ("1e-400", 0.0),
        (' "\\ud83d\\ude00\\/\\b\\f\\n\\r\\t\\"\\\\\\u00e9" ', '😀/\b\f\n\r\t"\\é'),
        ('{"b":1,"a":2,"b":3}', {"a": 2, "b": 3}),
    ],
)
def test_what_values_become(text, value):
    found = parse_value(text.encode())
    assert found == value
    assert type(found) is type(value)


def test_minus_zero_is_a_float():
    assert math.copysign(1, parse_value(b"-0")) == -1


def test_keys_are_sorted_by_their_bytes():
    assert list(parse_value('{"é":0,"z":0,"Z":0,"😀":0,"\uffff":0}'.encode())) == [
        *("Z", "z", "é", "\uffff", "😀")
    ]


@given(JSON_VALUES, st.booleans(), st.sampled_from([None, 2]))
def test_whatever_json_writes_is_read_as_json_reads_it(value, ascii_only, indent):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    try:
        data = text.encode()
    except UnicodeEncodeError:  # half a surrogate pair is no text
        return
    if ascii_only and any(0xD800 <= ord(c) <= 0xDFFF for c in str(value)):
        return
    found = parse_value(data)
    assert found == json.loads(text)
    assert parse_value(dumps(found).encode()) == found


@given(JSON_VALUES)
def test_whatever_is_written_is_json(value):
    try:
        text = dumps(value)
        text.encode()
    except UnicodeEncodeError:
        return
    assert json.loads(text) == value


@given(TEXTS)
def test_no_text_gives_anything_but_a_value_or_the_named_error(text):
    found, error = outcome(lambda: parse_value(text))
    if error is None:
        assert found == json.loads(text)
    else:
        assert error.line >= 1
        assert " at line " in str(error)


def _strict(text):
    def refuse(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


@given(TEXTS)
def test_what_json_accepts_is_accepted(text):
    try:
        expected = _strict(text.decode())
    except (ValueError, RecursionError):
        return
    found, error = outcome(lambda: parse_value(text))
    if error is None:
        assert found == expected
        return
    # What the json module lets through and serde_json does not.
    assert error.text in (
        "number out of range",
        "lone leading surrogate in hex escape",
        "unexpected end of hex escape",
    )


def test_a_string_full_of_escapes_takes_no_quadratic_time():
    escapes = b"\\n" * 200_000
    assert len(parse_value(b'"' + escapes + b'"')) == 200_000
    assert value_error(b'"' + escapes).startswith("EOF while parsing a string")


# ------------------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.5, "1.5"),
        (1e15, "1000000000000000.0"),
        (1e16, "1e16"),
        (1.8446744073709552e19, "1.8446744073709552e19"),
        (0.0001, "0.0001"),
        (0.00001, "0.00001"),
        (-0.000015, "-0.000015"),
        (0.000001, "1e-6"),
        (5e-324, "5e-324"),
    ],
)
def test_floats_are_written_as_rust_writes_them(number, text):
    assert float_text(number) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_written_floats_keep_their_value(number):
    assert float(float_text(number)) == number


def test_quoting_escapes_what_is_not_printable():
    assert quoted("a\"b\\c\n\r\t\0\x1b\u200bé'") == '"a\\"b\\\\c\\n\\r\\t\\0\\u{1b}\\u{200b}é\'"'


def test_writing_escapes_as_little_as_json_needs():
    assert dumps({'a"': ["\x00\x1f\x7fé/\b\f\n\r\t\\", None, True, False, 1, -0.0, {}, []]}) == (
        '{"a\\"":["\\u0000\\u001f\x7fé/\\b\\f\\n\\r\\t\\\\",null,true,false,1,-0.0,{},[]]}'
    )
