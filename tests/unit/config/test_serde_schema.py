"""Records from JSON with serde_json's rules: what is accepted, what is said, and where."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

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
from pyrovm.errors import ConfigError
from tests.unit.config.json_texts import JSON_VALUES, TEXTS, outcome


def error_of(read, text):
    with pytest.raises(JsonError) as caught:
        parse(read, text if isinstance(text, bytes) else text.encode())
    return str(caught.value)


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
