"""JSON with serde_json's rules: what is accepted, what is said, and where."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.config.serde.reader import JsonError
from pyrovm.config.serde.schema import (
    boolean,
    converted,
    enum,
    located,
    mapping,
    optional,
    parse,
    path,
    path_string,
    required,
    sequence,
    string,
    struct,
    u8,
    u16,
    u32,
    u64,
    usize,
)
from pyrovm.config.serde.text import float_text, quoted
from pyrovm.config.serde.value import parse_value
from pyrovm.config.serde.writer import dumps
from pyrovm.errors import ConfigError


def error_of(read, text):
    with pytest.raises(JsonError) as caught:
        parse(read, text if isinstance(text, bytes) else text.encode())
    return str(caught.value)


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


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


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


ALPHABET = st.sampled_from(
    b'{ } [ ] , : " \\ a "a" 0 - 1.5 e9 null true \x01 \xff \\u12 \\ud800 \\udc00 u'.split(b" ")
)
TEXTS = st.lists(ALPHABET | st.binary(max_size=3), max_size=20).map(b"".join)


def outcome(read):
    """What ``read`` returns, or the error that it raises: of any other kind it fails the test."""
    try:
        return read(), None
    except JsonError as error:
        return None, error


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


# ----------------------------------------------------------------------- schema

INNER = struct("Inner", (required("n", u8), optional("m", u8, 7)), lambda **f: f)
LOOSE = struct("Loose", (required("n", u8),), lambda **f: f, ignore_unknown=True)
OUTER = struct(
    "Outer",
    (
        required("name", string),
        optional("inner", INNER),
        optional("loose", LOOSE),
        optional("list", sequence(u16), ()),
        optional("kind", enum("A", "B", "C"), "A"),
        optional("flag", boolean, False),
        optional("map", mapping(string)),
    ),
    lambda **f: f,
)
FIELDS = "one of `name`, `inner`, `loose`, `list`, `kind`, `flag`, `map`"


def test_absent_and_null_fields_get_their_defaults():
    expected = {
        "name": "x",
        "inner": None,
        "loose": None,
        "list": (),
        "kind": "A",
        "flag": False,
        "map": None,
    }
    assert parse(OUTER, b'{"name":"x"}') == expected
    nulls = ",".join(f'"{name}":null' for name in expected if name != "name")
    assert parse(OUTER, f'{{"name":"x",{nulls}}}'.encode()) == expected


def test_a_record_may_also_be_an_array_of_its_fields():
    assert parse(INNER, b"[1]") == {"n": 1, "m": 7}
    assert parse(INNER, b"[1,2]") == {"n": 1, "m": 2}
    assert error_of(INNER, "[]") == (
        "invalid length 0, expected struct Inner with 2 elements at line 1 column 2"
    )
    assert error_of(INNER, "[1,2,3]") == "trailing characters at line 1 column 6"
    assert error_of(INNER, "[1,2,]") == "trailing comma at line 1 column 6"
    assert error_of(LOOSE, "[]") == (
        "invalid length 0, expected struct Loose with 1 element at line 1 column 2"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "missing field `name` at line 1 column 2"),
        ('{"x":1}', f"unknown field `x`, expected {FIELDS} at line 1 column 4"),
        ('{"x" : 1}', f"unknown field `x`, expected {FIELDS} at line 1 column 5"),
        ('{"name":"a","name":1}', "duplicate field `name` at line 1 column 18"),
        ('{"name":1}', "invalid type: integer `1`, expected a string at line 1 column 9"),
        (
            '{"name":1.0}',
            "invalid type: floating point `1.0`, expected a string at line 1 column 11",
        ),
        ('{"name":null}', "invalid type: null, expected a string at line 1 column 12"),
        ('{"name":true}', "invalid type: boolean `true`, expected a string at line 1 column 12"),
        ('{"name":[]}', "invalid type: sequence, expected a string at line 1 column 8"),
        ('{"name":{}}', "invalid type: map, expected a string at line 1 column 8"),
        ('{"name":}', "expected value at line 1 column 9"),
        ('{"flag":0}', "invalid type: integer `0`, expected a boolean at line 1 column 9"),
        ('{"kind":"D"}', "unknown variant `D`, expected one of `A`, `B`, `C` at line 1 column 11"),
        ('{"kind":1}', "expected value at line 1 column 9"),
        ('{"kind":{"A":1}}', "invalid type: integer `1`, expected unit at line 1 column 14"),
        ('{"kind":{"A":null,"B":null}}', "expected value at line 1 column 17"),
        ('{"list":[1,65536]}', "invalid value: integer `65536`, expected u16 at line 1 column 16"),
        ('{"list":1}', "invalid type: integer `1`, expected a sequence at line 1 column 9"),
        ('{"map":{"a":1}}', "invalid type: integer `1`, expected a string at line 1 column 13"),
        ('{"map":"a"}', 'invalid type: string "a", expected a map at line 1 column 10'),
        ('{"inner":{"z":1}}', "unknown field `z`, expected `n` or `m` at line 1 column 13"),
        ('{"inner":{}}', "missing field `n` at line 1 column 11"),
        ('{"inner":3}', "invalid type: integer `3`, expected struct Inner at line 1 column 10"),
        ('{"loose":{"z":[1,}}', "expected value at line 1 column 18"),
        ('{"name":"\\u0007\\"é"', "EOF while parsing an object at line 1 column 20"),
        (
            '"\\u0007\\"é"',
            'invalid type: string "\\u{7}\\"é", expected struct Outer at line 1 column 12',
        ),
    ],
)
def test_what_is_wrong_with_a_record(text, message):
    assert error_of(OUTER, text) == message


def test_unknown_fields_are_passed_over_where_they_are_allowed():
    text = b'{"z":{"a":[1,-2.5e3,"\\ud800\\"",null],"b":{}},"n":1,"y":[]}'
    assert parse(LOOSE, text) == {"n": 1}
    assert parse(LOOSE, b'{"z":' + b"[" * 5000 + b"]" * 5000 + b',"n":1}') == {"n": 1}
    assert parse(LOOSE, b'{"z":1e999,"n":1}') == {"n": 1}
    assert parse(LOOSE, b'{"z":"\xff","n":1}') == {"n": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1,]", "expected value"),
        ("[1 2]", "expected `,` or `]`"),
        ('{"a":1 "b":2}', "expected `,` or `}`"),
        ("{1:2}", "key must be a string"),
        ('{"a" 1}', "expected `:`"),
        ("[01]", "invalid number"),
        ("[nul]", "expected ident"),
        ('"\\x"', "invalid escape"),
        ('"\x01"', "control character"),
        ("[", "EOF while parsing a list"),
        ("[1", "EOF while parsing a list"),
        ('{"a":1', "EOF while parsing an object"),
        ('{"a"', "EOF while parsing an object"),
        ("{", "EOF while parsing an object"),
    ],
)
def test_what_is_passed_over_has_to_be_json(text, message):
    assert error_of(LOOSE, '{"z":' + text).startswith(message)


@given(JSON_VALUES)
def test_every_value_can_be_passed_over(value):
    try:
        text = json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    assert parse(LOOSE, b'{"z":' + text + b',"n":1}') == {"n": 1}


@given(TEXTS)
def test_no_text_gives_anything_but_a_record_or_the_named_error(text):
    for data in (text, b'{"name":' + text, b'{"loose":{"z":' + text, b'{"inner":' + text):
        _, error = outcome(lambda data=data: parse(OUTER, data))
        assert error is None or error.line >= 1


@pytest.mark.parametrize(
    ("read", "maximum", "name"),
    [
        (u8, 2**8 - 1, "u8"),
        (u16, 2**16 - 1, "u16"),
        (u32, 2**32 - 1, "u32"),
        (u64, 2**64 - 1, "u64"),
        (usize, 2**64 - 1, "usize"),
    ],
)
def test_integers_have_their_width(read, maximum, name):
    assert parse(read, str(maximum).encode()) == maximum
    over = error_of(read, str(maximum + 1))
    assert over.startswith(("invalid value: integer", "invalid type: floating point"))
    assert f"expected {name} at" in over
    assert error_of(read, "-1").startswith(f"invalid value: integer `-1`, expected {name}")


def test_converted_strings_report_their_own_errors_after_the_object():
    def convert(text):
        raise ConfigError(f"no {text}")

    record = struct("R", (required("a", converted(convert)),), lambda **f: f)
    assert error_of(record, '{"a":"x" }') == "no x at line 1 column 10"
    here = struct("R", (required("a", located(converted(convert, "thing"))),), lambda **f: f)
    assert error_of(here, '{"a":"x" }') == "no x at line 1 column 8"
    assert "expected thing" in error_of(here, '{"a":1}')


def test_paths_are_strings_by_another_name():
    assert parse(path, b'"/a"') == "/a"
    assert "expected path string" in error_of(path, "1")
    assert "expected a string" in error_of(path_string, "1")
    assert error_of(path_string, '"a\\u0000b" ') == (
        "file name contained an unexpected NUL byte at line 1 column 10"
    )


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
