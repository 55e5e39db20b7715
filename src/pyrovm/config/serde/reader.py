"""A cursor over JSON text that knows where it is.

Positions are serde_json's: lines count from 1; the column is the number of bytes of the line up to
and including the last byte looked at.  An error found by *consuming* a byte points at the cursor,
one found by *peeking* points one byte further (but never past the end).

Some errors arise where no position is known (an unknown field, a missing one): they are raised
without one and get the cursor of the innermost object that is left on the way up
(:meth:`Reader.locate`), which is after that object's closing brace if it came next.
"""

from __future__ import annotations

from pyrovm.errors import ConfigError

RECURSION_LIMIT = 128
U64_MAX = (1 << 64) - 1
I64_MIN = -(1 << 63)

QUOTE, MINUS, COMMA, COLON, ZERO, NINE = b'"-,:09'
LBRACKET, RBRACKET, LBRACE, RBRACE, BACKSLASH = b"[]{}\\"
LOWER_N, LOWER_T, LOWER_F, LOWER_U = b"ntfu"
END = -1  # what peek gives after the last byte

_SPACE = b" \n\t\r"
_DIGITS = b"0123456789"
_CONTROL = bytes(range(0x20))
_WINDOW = 32  # bytes looked at in one step when skipping white space or digits
_ESCAPES = {
    ord('"'): '"',
    ord("\\"): "\\",
    ord("/"): "/",
    ord("b"): "\b",
    ord("f"): "\f",
    ord("n"): "\n",
    ord("r"): "\r",
    ord("t"): "\t",
}
_INT_DIGITS = 20  # more digits than this cannot be a 64-bit integer


class JsonError(ConfigError):
    """The text is not the JSON that was asked for; ``line`` is 0 while the place is unknown."""

    def __init__(self, text: str, line: int = 0, column: int = 0) -> None:
        super().__init__(text)
        self.text = text
        self.line = line
        self.column = column

    def __str__(self) -> str:
        if self.line:
            return f"{self.text} at line {self.line} column {self.column}"
        return self.text


class Reader:
    """Reads ``data``; ``at`` is the index of the next byte, ``depth`` the nesting still allowed."""

    __slots__ = ("at", "data", "depth")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.depth = RECURSION_LIMIT

    # ------------------------------------------------------------------ errors

    def error(self, text: str) -> JsonError:
        """An error at the cursor: its last byte has been consumed."""
        return self._error_at(text, self.at)

    def peek_error(self, text: str) -> JsonError:
        """An error at the byte that comes next."""
        return self._error_at(text, min(len(self.data), self.at + 1))

    def _error_at(self, text: str, index: int) -> JsonError:
        start = self.data.rfind(b"\n", 0, index) + 1
        return JsonError(text, 1 + self.data.count(b"\n", 0, start), index - start)

    def locate(self, error: JsonError) -> JsonError:
        """``error``, placed at the cursor if it has no place yet."""
        return error if error.line else self.error(error.text)

    # ------------------------------------------------------------------ tokens

    def peek(self) -> int:
        """The next byte that is not white space, or END; the cursor is on it."""
        data, at = self.data, self.at
        try:
            while data[at] in _SPACE:
                at += 1
                rest = data[at : at + _WINDOW]
                at += len(rest) - len(rest.lstrip(_SPACE))
            self.at = at
            return data[at]
        except IndexError:
            self.at = at
            return END

    def peek_value(self) -> int:
        """The first byte of a value that has to come.

        Raises:
            JsonError: the text ends.
        """
        byte = self.peek()
        if byte == END:
            raise self.peek_error("EOF while parsing a value")
        return byte

    def word(self, rest: bytes) -> None:
        """Consume a word whose first byte the cursor is on; ``rest`` is the rest of it.

        Raises:
            JsonError: it is another word.
        """
        self.at += 1
        for expected in rest:
            if self.at >= len(self.data):
                raise self.error("EOF while parsing a value")
            self.at += 1
            if self.data[self.at - 1] != expected:
                raise self.error("expected ident")

    def number(self) -> int | float:
        """Consume a number: an int if it fits in 64 bits (signed or not), else a float.

        Raises:
            JsonError: the number is malformed, or no float is as large.
        """
        data, start = self.data, self.at
        first = start + (data[start] == MINUS)
        end = self.at = _digits_end(data, first)
        if end == first:
            if end == len(data):
                raise self.error("EOF while parsing a value")
            self.at += 1
            raise self.error("invalid number")
        if data[first] == ZERO and end > first + 1:
            self.at = first + 1
            raise self.peek_error("invalid number")
        is_float = data[end : end + 1] in (b".", b"e", b"E")
        if is_float:
            self._fraction_and_exponent()
        elif end - first <= _INT_DIGITS:
            number = int(data[start:end])
            if I64_MIN <= number <= U64_MAX and (number or first == start):
                return number
        value = float(data[start : self.at])
        if value - value != 0.0:  # infinite
            raise self.error("number out of range")
        return value

    def _fraction_and_exponent(self) -> None:
        data = self.data
        if data[self.at] == 0x2E:  # .
            self.at += 1
            end = _digits_end(data, self.at)
            if end == self.at:
                at_end = end == len(data)
                raise self.peek_error("EOF while parsing a value" if at_end else "invalid number")
            self.at = end
        if data[self.at : self.at + 1] in (b"e", b"E"):
            self.at += 1
            if data[self.at : self.at + 1] in (b"+", b"-"):
                self.at += 1
            end = _digits_end(data, self.at)
            if end == self.at:
                if end == len(data):
                    raise self.error("EOF while parsing a value")
                self.at += 1
                raise self.error("invalid number")
            self.at = end

    def string(self) -> str:
        """Consume a string; the cursor is on its opening quote.

        Raises:
            JsonError: it does not end, or holds what a string may not hold.
        """
        data = self.data
        start = self.at + 1
        quote = data.find(b'"', start)
        chunk = data[start : quote if quote >= 0 else len(data)]
        if quote < 0 or BACKSLASH in chunk or len(chunk.translate(None, _CONTROL)) != len(chunk):
            return self._decode(self._hard_string(start, is_wanted=True))
        self.at = quote + 1
        return self._decode(chunk)

    def skip_string(self) -> None:
        """Consume a string that nobody wants: its characters need not be valid.

        Raises:
            JsonError: it does not end, or holds a control character or a bad escape.
        """
        self._hard_string(self.at + 1, is_wanted=False)

    def _decode(self, raw: bytes) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.error("invalid unicode code point") from None

    def _hard_string(self, start: int, *, is_wanted: bool) -> bytes:
        data = self.data
        parts: list[bytes] = []
        quote = -1
        self.at = start
        while True:
            if quote < self.at:  # not looked for yet, or passed as an escaped one
                found = data.find(b'"', self.at)
                quote = found if found >= 0 else len(data)
            escape = data.find(b"\\", self.at, quote)
            end = escape if escape >= 0 else quote
            chunk = data[self.at : end]
            if len(chunk.translate(None, _CONTROL)) != len(chunk):
                self.at += next(i for i, byte in enumerate(chunk) if byte < 0x20) + 1
                raise self.error("control character (\\u0000-\\u001F) found while parsing a string")
            self.at = end
            if end == len(data):
                raise self.error("EOF while parsing a string")
            parts.append(chunk)
            self.at += 1
            if escape < 0:
                return b"".join(parts)
            parts.append(self._escape(is_wanted))

    def _escape(self, is_wanted: bool) -> bytes:
        byte = self._next_of_string()
        plain = _ESCAPES.get(byte)
        if plain is not None:
            return plain.encode()
        if byte != LOWER_U:
            raise self.error("invalid escape")
        unit = self._hex_escape()
        if not is_wanted:
            return b""  # half a surrogate pair harms nobody
        if 0xDC00 <= unit <= 0xDFFF:
            raise self.error("lone leading surrogate in hex escape")
        if not 0xD800 <= unit <= 0xDBFF:
            return chr(unit).encode()
        for expected in b"\\u":
            if self._next_of_string() != expected:
                raise self.error("unexpected end of hex escape")
        low = self._hex_escape()
        if not 0xDC00 <= low <= 0xDFFF:
            raise self.error("lone leading surrogate in hex escape")
        return chr(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)).encode()

    def _next_of_string(self) -> int:
        if self.at >= len(self.data):
            raise self.error("EOF while parsing a string")
        self.at += 1
        return self.data[self.at - 1]

    def _hex_escape(self) -> int:
        digits = self.data[self.at : self.at + 4]
        self.at += len(digits)
        if len(digits) < 4:
            raise self.error("EOF while parsing a string")
        if not digits.isalnum():  # int() would take signs, spaces and underscores
            raise self.error("invalid escape")
        try:
            return int(digits, 16)
        except ValueError:
            raise self.error("invalid escape") from None

    # -------------------------------------------------------------- containers

    def enter(self) -> None:
        """Consume the bracket under the cursor; one level less is left.

        Raises:
            JsonError: the nesting is too deep.
        """
        self.depth -= 1
        if self.depth == 0:
            raise self.peek_error("recursion limit exceeded")
        self.at += 1

    def next_element(self, is_first: bool) -> bool:
        """Whether another element of an array comes; the cursor is on it or on ``]``.

        Raises:
            JsonError: neither comes.
        """
        byte = self.peek()
        if byte == END:
            raise self.peek_error("EOF while parsing a list")
        if byte == RBRACKET:
            return False
        if is_first:
            return True
        if byte != COMMA:
            raise self.peek_error("expected `,` or `]`")
        self.at += 1
        byte = self.peek()
        if byte == RBRACKET:
            raise self.peek_error("trailing comma")
        if byte == END:
            raise self.peek_error("EOF while parsing a value")
        return True

    def next_key(self, is_first: bool) -> str | None:
        """The next key of an object, None before ``}``; then comes :meth:`colon`.

        Raises:
            JsonError: neither comes.
        """
        byte = self.peek()
        if byte == END:
            raise self.peek_error("EOF while parsing an object")
        if byte == RBRACE:
            return None
        if not is_first:
            if byte != COMMA:
                raise self.peek_error("expected `,` or `}`")
            self.at += 1
            byte = self.peek()
            if byte == RBRACE:
                raise self.peek_error("trailing comma")
            if byte == END:
                raise self.peek_error("EOF while parsing a value")
        if byte != QUOTE:
            raise self.peek_error("key must be a string")
        return self.string()

    def colon(self) -> None:
        """Consume the colon between key and value.

        Raises:
            JsonError: it is not there.
        """
        byte = self.peek()
        if byte == END:
            raise self.peek_error("EOF while parsing an object")
        if byte != COLON:
            raise self.peek_error("expected `:`")
        self.at += 1

    def end_array(self) -> None:
        """Consume ``]`` and get the level back.

        Raises:
            JsonError: something else comes.
        """
        self.depth += 1
        byte = self.peek()
        if byte == RBRACKET:
            self.at += 1
            return
        if byte == END:
            raise self.peek_error("EOF while parsing a list")
        if byte == COMMA:
            self.at += 1
            if self.peek() == RBRACKET:
                raise self.peek_error("trailing comma")
        raise self.peek_error("trailing characters")

    def end_object(self) -> None:
        """Consume ``}`` and get the level back.

        Raises:
            JsonError: something else comes.
        """
        self.depth += 1
        byte = self.peek()
        if byte == RBRACE:
            self.at += 1
            return
        if byte == END:
            raise self.peek_error("EOF while parsing an object")
        if byte == COMMA:
            raise self.peek_error("trailing comma")
        raise self.peek_error("trailing characters")

    def end(self) -> None:
        """Nothing but white space may be left.

        Raises:
            JsonError: something is.
        """
        if self.peek() != END:
            raise self.peek_error("trailing characters")


def _digits_end(data: bytes, at: int) -> int:
    while True:
        window = data[at : at + _WINDOW]
        rest = window.lstrip(_DIGITS)
        at += len(window) - len(rest)
        if rest or len(window) < _WINDOW:
            return at
