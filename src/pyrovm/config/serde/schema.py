"""What JSON a record accepts, declared field by field.

A *read* is a function that takes a :class:`Reader` standing before a value and returns the value.
The makers below build reads for one type each; :func:`parse` applies one to a whole text::

    RATE = struct("Rate", (required("size", u64), optional("burst", u64)), Rate)
    rate = parse(RATE, b'{"size": 5}')

The order of errors and their places are those of code that serde derives: a record reads its
fields in the order of the text, complains about what it cannot use before it looks at the value,
and about what is missing after the last field.
"""

from __future__ import annotations

from pyrovm.config.serde.reader import (
    END,
    LBRACE,
    LBRACKET,
    LOWER_F,
    LOWER_N,
    LOWER_T,
    MINUS,
    NINE,
    QUOTE,
    RBRACE,
    ZERO,
    JsonError,
    Reader,
)
from pyrovm.config.serde.text import float_text, quoted
from pyrovm.config.serde.value import skip_value
from pyrovm.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    T = TypeVar("T")
    Read = Callable[[Reader], T]


def parse(read: Read[T], data: bytes) -> T:
    """The value of a whole JSON text.

    Raises:
        JsonError: it is not JSON, or not of this type.
    """
    reader = Reader(data)
    value = read(reader)
    reader.end()
    return value


# --------------------------------------------------------------------- scalars


def _number_text(number: float) -> str:
    if isinstance(number, int):
        return f"integer `{number}`"
    return f"floating point `{float_text(number)}`"


def _invalid_type(reader: Reader, expected: str) -> JsonError:
    """The error for a value of another type; the value is read as far as it has to be named."""
    byte = reader.peek()
    if byte == LOWER_N:
        reader.word(b"ull")
        found = "null"
    elif byte == LOWER_T:
        reader.word(b"rue")
        found = "boolean `true`"
    elif byte == LOWER_F:
        reader.word(b"alse")
        found = "boolean `false`"
    elif byte == QUOTE:
        found = f"string {quoted(reader.string())}"
    elif byte == MINUS or ZERO <= byte <= NINE:
        found = _number_text(reader.number())
    elif byte == LBRACKET:
        found = "sequence"
    elif byte == LBRACE:
        found = "map"
    else:
        return reader.peek_error("expected value")
    return reader.error(f"invalid type: {found}, expected {expected}")


def _integer(name: str, maximum: int) -> Read[int]:
    def read(reader: Reader) -> int:
        byte = reader.peek_value()
        if byte != MINUS and not ZERO <= byte <= NINE:
            raise _invalid_type(reader, name)
        number = reader.number()
        if not isinstance(number, int):
            raise reader.error(f"invalid type: {_number_text(number)}, expected {name}")
        if not 0 <= number <= maximum:
            raise reader.error(f"invalid value: {_number_text(number)}, expected {name}")
        return number

    return read


u8 = _integer("u8", 0xFF)
u16 = _integer("u16", 0xFFFF)
u32 = _integer("u32", 0xFFFF_FFFF)
u64 = _integer("u64", 0xFFFF_FFFF_FFFF_FFFF)
usize = _integer("usize", 0xFFFF_FFFF_FFFF_FFFF)


def boolean(reader: Reader) -> bool:
    """``true`` or ``false``."""
    byte = reader.peek_value()
    if byte == LOWER_T:
        reader.word(b"rue")
        return True
    if byte == LOWER_F:
        reader.word(b"alse")
        return False
    raise _invalid_type(reader, "a boolean")


def _text(expected: str) -> Read[str]:
    def read(reader: Reader) -> str:
        if reader.peek_value() == QUOTE:
            return reader.string()
        raise _invalid_type(reader, expected)

    return read


def _path(expected: str) -> Read[str]:
    inner = _text(expected)

    def read(reader: Reader) -> str:
        text = inner(reader)
        if "\0" in text:
            raise reader.error("file name contained an unexpected NUL byte")
        return text

    return read


string = _text("a string")
path = _path("path string")
path_string = _path("a string")  # a path that the API calls a string


def converted(convert: Callable[[str], T], expected: str = "a string") -> Read[T]:
    """A string that ``convert`` understands, or it raises ConfigError with the reason."""
    inner = _text(expected)

    def read(reader: Reader) -> T:
        text = inner(reader)
        try:
            return convert(text)
        except ConfigError as error:
            raise JsonError(str(error)) from None

    return read


def located(inner: Read[T]) -> Read[T]:
    """``inner``, whose errors without a place belong right after the value."""

    def read(reader: Reader) -> T:
        try:
            return inner(reader)
        except JsonError as error:
            raise reader.locate(error) from None

    return read


def one_of(names: Sequence[str]) -> str:
    """``names`` as serde lists what it expected."""
    ticked = [f"`{name}`" for name in names]
    if len(ticked) <= 2:
        return " or ".join(ticked)
    return f"one of {', '.join(ticked)}"


def enum(*variants: str) -> Read[str]:
    """One of ``variants``, in declaration order; also as ``{"variant": null}``, as serde does."""

    def variant(reader: Reader) -> str:
        name = string(reader)
        if name not in variants:
            raise reader.error(f"unknown variant `{name}`, expected {one_of(variants)}")
        return name

    def read(reader: Reader) -> str:
        byte = reader.peek_value()
        if byte == QUOTE:
            return variant(reader)
        if byte != LBRACE:
            raise reader.peek_error("expected value")
        reader.enter()
        name = variant(reader)
        reader.colon()
        if reader.peek_value() != LOWER_N:
            raise _invalid_type(reader, "unit")
        reader.word(b"ull")
        reader.depth += 1
        byte = reader.peek()
        if byte != RBRACE:
            text = "EOF while parsing an object" if byte == END else "expected value"
            raise reader.error(text)
        reader.at += 1
        return name

    return read


# ------------------------------------------------------------------ containers


def _leave(reader: Reader, error: JsonError, end: Callable[[], None]) -> JsonError:
    """Leave a container on ``error``: what has no place yet gets it after the closing bracket."""
    try:
        end()
    except JsonError:
        pass  # the first error is the one that counts
    return reader.locate(error)


def sequence(inner: Read[T]) -> Read[list[T]]:
    """An array of ``inner``."""

    def read(reader: Reader) -> list[T]:
        if reader.peek_value() != LBRACKET:
            raise _invalid_type(reader, "a sequence")
        reader.enter()
        items: list[T] = []
        try:
            while reader.next_element(not items):
                items.append(inner(reader))
        except JsonError as error:
            raise _leave(reader, error, reader.end_array) from None
        reader.end_array()
        return items

    return read


def mapping(inner: Read[T]) -> Read[dict[str, T]]:
    """An object with keys of any name; the last of equal keys wins."""

    def read(reader: Reader) -> dict[str, T]:
        if reader.peek_value() != LBRACE:
            raise _invalid_type(reader, "a map")
        reader.enter()
        items: dict[str, T] = {}
        is_first = True
        try:
            while (key := reader.next_key(is_first)) is not None:
                is_first = False
                reader.colon()
                items[key] = inner(reader)
        except JsonError as error:
            raise _leave(reader, error, reader.end_object) from None
        reader.end_object()
        return items

    return read


class Field:
    """A field of a record; one that is not required may also be null, which means its default."""

    __slots__ = ("default", "is_required", "name", "read")

    def __init__(self, name: str, read: Read[Any], is_required: bool, default: Any) -> None:
        self.name = name
        self.read = read
        self.is_required = is_required
        self.default = default


def required(name: str, read: Read[Any]) -> Field:
    """A field that has to be there."""
    return Field(name, read, True, None)


def optional(name: str, read: Read[Any], default: Any = None) -> Field:
    """A field that may be absent or null."""

    def read_or_default(reader: Reader) -> Any:
        if reader.peek() != LOWER_N:
            return read(reader)
        reader.word(b"ull")
        return default

    return Field(name, read_or_default, False, default)


def struct(
    name: str, fields: Sequence[Field], make: Callable[..., T], *, ignore_unknown: bool = False
) -> Read[T]:
    """A record: ``make`` is called with all fields by keyword.

    ``make`` may raise ConfigError; that is no error of any place in the text.
    """
    known = {field.name: field for field in fields}
    expected_fields = one_of([field.name for field in fields])

    def read_object(reader: Reader) -> dict[str, Any]:
        values: dict[str, Any] = {}
        is_first = True
        while (key := reader.next_key(is_first)) is not None:
            is_first = False
            field = known.get(key)
            if field is None:
                if not ignore_unknown:
                    raise JsonError(f"unknown field `{key}`, expected {expected_fields}")
                reader.colon()
                skip_value(reader)
                continue
            if key in values:
                raise JsonError(f"duplicate field `{key}`")
            reader.colon()
            values[key] = field.read(reader)
        for field in fields:
            if field.name not in values:
                if field.is_required:
                    raise JsonError(f"missing field `{field.name}`")
                values[field.name] = field.default
        return values

    def read_array(reader: Reader) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for index, field in enumerate(fields):
            if reader.next_element(index == 0):
                values[field.name] = field.read(reader)
            elif field.is_required:
                size = f"{len(fields)} element{'' if len(fields) == 1 else 's'}"
                raise JsonError(f"invalid length {index}, expected struct {name} with {size}")
            else:
                values[field.name] = field.default
        return values

    def read(reader: Reader) -> T:
        byte = reader.peek_value()
        if byte == LBRACE:
            read_fields, end = read_object, reader.end_object
        elif byte == LBRACKET:
            read_fields, end = read_array, reader.end_array
        else:
            raise _invalid_type(reader, f"struct {name}")
        reader.enter()
        try:
            values = read_fields(reader)
        except JsonError as error:
            raise _leave(reader, error, end) from None
        end()
        return make(**values)

    return read
