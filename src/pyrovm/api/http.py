"""HTTP/1.x as Firecracker's API speaks it: bytes in, requests out; responses to bytes.  No I/O.

The rules are those of a micro server, not of RFC 9112: four methods, lines of at most 1024 bytes,
a body only where Content-Length says so.  A message that breaks them becomes a
:class:`BadRequest`, whose reason is the client's to read; the rest of that message is then passed
over as far as its end can be guessed, so that the connection stays usable:

    LINE --ok--> HEADERS --empty line--> BODY --all bytes--> LINE
      |              |                     ^
      +---error------+--> LOST_HEADERS ----+--> LOST_BODY
                          (until an empty line, or a new request line)
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    Event: TypeAlias = "Request | BadRequest | Continue"

METHODS = (b"GET", b"PUT", b"PATCH", b"DELETE")
VERSIONS = (b"HTTP/1.0", b"HTTP/1.1")
MAX_LINE = 1024  # bytes, with its CRLF
MAX_CONTENT_LENGTH = 0xFFFF_FFFF
DEFAULT_PAYLOAD_LIMIT = 51200

LINE, HEADERS, BODY, LOST_HEADERS, LOST_BODY = range(5)
_SCHEME = "http://"


class Request:
    """A complete request; ``path`` is empty if the URI has none; a ``body`` is never empty."""

    __slots__ = ("body", "method", "path", "version")

    def __init__(self, method: str, path: str, version: str, body: bytes | None = None) -> None:
        self.method = method
        self.path = path
        self.version = version
        self.body = body


class BadRequest:
    """Bytes that are no request: ``reason`` says why."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


class Continue:
    """The client waits for our consent before it sends the body."""

    __slots__ = ("version",)

    def __init__(self, version: str) -> None:
        self.version = version


class _HttpError(Exception):
    """Breaks off the parsing of a message; the text is the reason."""


class RequestParser:
    """Turns the bytes of one connection into events, however they are cut.

    Holds at most one message: a line, and a body of up to ``payload_limit`` bytes.
    """

    def __init__(self, payload_limit: int = DEFAULT_PAYLOAD_LIMIT) -> None:
        self._limit = payload_limit
        self._buffer = bytearray()
        self._state = LINE
        self._request: Request | None = None
        self._length = 0  # of the body; in BODY and LOST_BODY what is still missing
        self._expects = False
        self._line_is_lost = False  # its beginning was too long and has been thrown away

    def feed(self, data: bytes) -> list[Event]:
        """The events that ``data``, the next bytes of the connection, completes."""
        self._buffer += data
        events: list[Event] = []
        while True:
            try:
                if not self._step(events):
                    return events
            except _HttpError as error:
                events.append(BadRequest(str(error)))
                self._request = None
                self._state = LOST_HEADERS

    def _step(self, events: list[Event]) -> bool:
        """Consume one line or some of a body; False if more bytes are needed."""
        if self._state == BODY:
            return self._body(events)
        if self._state == LOST_BODY:
            return self._lost_body()
        line = self._next_line()
        if line is None:
            return False
        if self._state == LINE:
            self._length = 0
            self._begin(line)
        elif self._state == LOST_HEADERS:
            self._lost_header(line)
        elif line:
            self._header(line)
        else:
            self._end_of_headers(events)
        return True

    def _next_line(self) -> bytes | None:
        """The next line without its CRLF; None while it is not complete."""
        buffer = self._buffer
        while True:
            end = buffer.find(b"\r\n", 0, MAX_LINE)
            if end >= 0:
                line = bytes(buffer[:end])
                del buffer[: end + 2]
                if self._line_is_lost:
                    self._line_is_lost = False
                    return b"-"  # all that is known of it is that it was not empty
                return line
            if len(buffer) < MAX_LINE:
                return None
            start = bytes(buffer[:MAX_LINE])
            del buffer[: MAX_LINE - 1]  # the last byte may be half of a CRLF
            was_lost = self._line_is_lost
            self._line_is_lost = True
            if not was_lost and self._state != LOST_HEADERS:
                raise self._line_too_long(start)

    def _line_too_long(self, start: bytes) -> _HttpError:
        if self._state == LINE:
            return _HttpError("Invalid request.")
        text = start.decode("utf-8", "replace")
        return _HttpError(f"Invalid header. Reason: Invalid content length. Header: {text}")

    # ------------------------------------------------------------ good messages

    def _begin(self, line: bytes) -> None:
        request = _parse_request_line(line)
        self._request = request
        self._length = 0
        self._expects = False
        self._state = HEADERS

    def _header(self, line: bytes) -> None:
        header = _parse_header(line)
        if header is None:
            return
        name, value = header
        if name == "content-length":
            self._length = int(value)
        else:
            self._expects = True

    def _end_of_headers(self, events: list[Event]) -> None:
        request = self._request
        assert request is not None
        if not self._length:
            self._finish(request, events)
            return
        if self._length > self._limit:
            events.append(
                BadRequest(
                    f"Request payload with size {self._length} is larger than the limit of "
                    f"{self._limit} allowed by server."
                )
            )
            # A client that waited for our consent keeps its body to itself now.
            self._state = LINE if self._expects else LOST_BODY
            return
        if self._expects:
            events.append(Continue(request.version))
        self._state = BODY

    def _body(self, events: list[Event]) -> bool:
        request = self._request
        assert request is not None
        if len(self._buffer) < self._length:
            return False
        request.body = bytes(self._buffer[: self._length])
        del self._buffer[: self._length]
        self._finish(request, events)
        return True

    def _finish(self, request: Request, events: list[Event]) -> None:
        events.append(request)
        self._request = None
        self._state = LINE

    # ------------------------------------------------------------ lost messages

    def _lost_header(self, line: bytes) -> None:
        """Look for the end of the headers of a bad message, and for how long its body is."""
        if not line:
            self._state = LOST_BODY if self._length else LINE
            return
        try:
            self._begin(line)  # then what was bad had no headers at all
        except _HttpError:
            pass
        else:
            return
        try:
            header = _parse_header(line)
        except _HttpError:
            return
        if header is not None and header[0] == "content-length":
            self._length = int(header[1])

    def _lost_body(self) -> bool:
        passed = min(len(self._buffer), self._length)
        del self._buffer[:passed]
        self._length -= passed
        if self._length:
            return False
        self._state = LINE
        return True


def _parse_request_line(line: bytes) -> Request:
    parts = line.split(b" ", 2)
    if len(parts) != 3:
        raise _HttpError("Invalid request.")
    method, uri, version = parts
    if method not in METHODS:
        raise _HttpError("Invalid HTTP Method: Unsupported HTTP method.")
    if not uri:
        raise _HttpError("Invalid URI: Empty URI not allowed.")
    try:
        text = uri.decode()
    except UnicodeDecodeError:
        raise _HttpError("Invalid URI: Cannot parse URI as UTF-8.") from None
    if version not in VERSIONS:
        raise _HttpError("Invalid HTTP Version: Unsupported HTTP version.")
    return Request(method.decode(), _absolute_path(text), version.decode())


def _absolute_path(uri: str) -> str:
    """The path of ``/path`` or ``http://host/path``; empty where there is none."""
    if uri.startswith(_SCHEME):
        slash = uri.find("/", len(_SCHEME))
        return uri[slash:] if slash >= 0 else ""
    return uri if uri.startswith("/") else ""


def _parse_header(line: bytes) -> tuple[str, str] | None:
    """A header that matters, as (lower-case name, value); None for all others."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise _HttpError(
            "Invalid header. Reason: Header contains invalid characters. Key: "
            f"{_utf8_problem(error)}"
        ) from None
    name, colon, value = text.partition(":")
    if not colon:
        raise _HttpError(f"Invalid header. Reason: Header is incorrectly formatted. Key: {text}")
    key = name.strip().lower()
    trimmed = value.strip()
    if key == "content-length":
        digits = trimmed.removeprefix("+")
        is_number = digits.isascii() and digits.isdigit() and len(digits.lstrip("0")) <= 10
        if not is_number or int(digits) > MAX_CONTENT_LENGTH:
            raise _HttpError(f"Invalid header. Reason: Invalid value. Key:{name}; Value:{value}")
        return key, digits
    if key == "expect" and trimmed == "100-continue":
        return key, trimmed
    if key == "accept-encoding":
        _check_encodings(trimmed)
    return None


def _check_encodings(value: str) -> None:
    """We send bodies as they are: a client may not rule that out."""
    if not value:
        raise _HttpError("Invalid request.")
    for encoding in value.split(","):
        item = encoding.strip()
        if item == "identity;q=0" or (item == "*;q=0" and "identity" not in value):
            raise _HttpError(
                f"Invalid header. Reason: Invalid value. Key:Accept-Encoding; Value:{encoding}"
            )


def _utf8_problem(error: UnicodeDecodeError) -> str:
    if error.reason == "unexpected end of data":
        return f"incomplete utf-8 byte sequence from index {error.start}"
    size = error.end - error.start
    return f"invalid utf-8 sequence of {size} bytes from index {error.start}"


# ------------------------------------------------------------------- responses

TOO_MANY_CONNECTIONS = (
    b"HTTP/1.1 503\r\n"
    b"Server: Firecracker API\r\n"
    b"Connection: close\r\n"
    b"Content-Length: 40\r\n"
    b"\r\n"
    b'{ "error": "Too many open connections" }'
)


def response(
    status: int,
    body: bytes | None = None,
    *,
    is_deprecated: bool = False,
    allow: Sequence[str] = (),
    version: str = "HTTP/1.1",
) -> bytes:
    """A response; 100 and 204 have no place for a body, all others name its type and length."""
    head = f"{version} {status} \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n"
    if allow:
        head += f"Allow: {', '.join(allow)}\r\n"
    if is_deprecated:
        head += "Deprecation: true\r\n"
    if status in (100, 204):
        return f"{head}\r\n".encode()
    body = body or b""
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


def bad_request(reason: str) -> bytes:
    """The response to a :class:`BadRequest`; its raw line feed is part of the contract."""
    text = f'{{ "error": "{reason}\nAll previous unanswered requests will be dropped." }}'
    return response(400, text.encode())
