"""JSON of any shape, as serde_json's ``Value`` holds it.

Objects become dicts with their keys in byte order, whatever order the text had, and the last of
equal keys wins; integers are 64 bits wide, other numbers are finite floats.
"""

from __future__ import annotations

from pyrovm.config.serde.reader import (
    COLON,
    COMMA,
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
    RBRACKET,
    ZERO,
    JsonError,
    Reader,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def parse_value(data: bytes) -> Any:
    """The value of a whole JSON text.

    Raises:
        JsonError: it is not JSON, or nested deeper than 127 levels.
    """
    reader = Reader(data)
    value = read_value(reader)
    reader.end()
    return value


def read_value(reader: Reader) -> Any:
    """The value that comes next.

    Raises:
        JsonError: none comes.
    """
    byte = reader.peek_value()
    if byte == QUOTE:
        return reader.string()
    if byte == LBRACE:
        return _read_object(reader)
    if byte == LBRACKET:
        return _read_array(reader)
    if byte == MINUS or ZERO <= byte <= NINE:
        return reader.number()
    if byte == LOWER_N:
        reader.word(b"ull")
        return None
    if byte == LOWER_T:
        reader.word(b"rue")
        return True
    if byte == LOWER_F:
        reader.word(b"alse")
        return False
    raise reader.peek_error("expected value")


def _read_array(reader: Reader) -> list[Any]:
    reader.enter()
    items: list[Any] = []
    while reader.next_element(not items):
        items.append(read_value(reader))
    reader.end_array()
    return items


def _read_object(reader: Reader) -> dict[str, Any]:
    reader.enter()
    items: dict[str, Any] = {}
    key = reader.next_key(True)
    while key is not None:
        reader.colon()
        items[key] = read_value(reader)
        key = reader.next_key(False)
    reader.end_object()
    return dict(sorted(items.items(), key=_key)) if len(items) > 1 else items


def _key(item: tuple[str, Any]) -> str:
    return item[0]


def skip_value(reader: Reader) -> None:
    """Pass over a value that nobody wants: it may be nested without limit.

    Strings are not looked into beyond what is needed to find their end.

    Raises:
        JsonError: the text is no value.
    """
    enclosing: list[int] = []  # the opening brackets around the cursor
    while True:
        opened = _skip_scalar(reader)
        if opened:
            enclosing.append(opened)
        elif not enclosing:
            return
        if not _skip_to_next(reader, enclosing, is_first=bool(opened)):
            return


def _skip_scalar(reader: Reader) -> int:
    """Skip a scalar (0) or step into a container (its opening bracket)."""
    byte = reader.peek_value()
    if byte in (LBRACE, LBRACKET):
        reader.at += 1
        return byte
    if byte == QUOTE:
        reader.skip_string()
    elif byte == MINUS or ZERO <= byte <= NINE:
        _skip_number(reader)
    elif byte == LOWER_N:
        reader.word(b"ull")
    elif byte == LOWER_T:
        reader.word(b"rue")
    elif byte == LOWER_F:
        reader.word(b"alse")
    else:
        raise reader.peek_error("expected value")
    return 0


def _skip_to_next(reader: Reader, enclosing: list[int], *, is_first: bool) -> bool:
    """Skip closing brackets, a comma and a key; False when the outermost value has ended."""
    while enclosing:
        kind = enclosing[-1]
        byte = reader.peek()
        if byte == END:
            what = "a list" if kind == LBRACKET else "an object"
            raise reader.peek_error(f"EOF while parsing {what}")
        if byte == (RBRACKET if kind == LBRACKET else RBRACE):
            reader.at += 1
            enclosing.pop()
            is_first = False
            continue
        if not is_first:
            if byte != COMMA:
                end = "]" if kind == LBRACKET else "}"
                raise reader.peek_error(f"expected `,` or `{end}`")
            reader.at += 1
        if kind == LBRACE:
            _skip_key(reader)
        return True
    return False


def _skip_key(reader: Reader) -> None:
    byte = reader.peek()
    if byte == END:
        raise reader.peek_error("EOF while parsing an object")
    if byte != QUOTE:
        raise reader.peek_error("key must be a string")
    reader.skip_string()
    byte = reader.peek()
    if byte == END:
        raise reader.peek_error("EOF while parsing an object")
    if byte != COLON:
        raise reader.peek_error("expected `:`")
    reader.at += 1


def _skip_number(reader: Reader) -> None:
    try:
        reader.number()
    except JsonError as error:
        if error.text != "number out of range":  # nobody wants its value
            raise
