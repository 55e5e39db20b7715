"""HTTP as a guest speaks it to the metadata service: one request in, one response out.

A subset of RFC 9112 with the words of the server it stands in for: what cannot be understood is
answered with one sentence of text.  No request that the service knows has a body, so one that
announces a body is refused at once: nothing ever waits for bytes that may not come.
"""

from __future__ import annotations

from pyrovm.errors import GuestError

METHODS = ("GET", "PUT", "PATCH", "DELETE")
VERSIONS = ("HTTP/1.0", "HTTP/1.1")
REQUEST_LINE_MIN = len("GET") + len("HTTP/1.0") + len("  /")

TEXT, JSON = "text/plain", "application/json"

U32_MAX = 0xFFFF_FFFF


class HttpError(GuestError):
    """A request that is answered with ``status`` and the message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Request:
    """One request.  ``path`` begins with a slash, or is empty where the URI has none.

    ``headers`` maps a name in lower case to the name as it was sent and its value; of two that
    differ in case only, the last one counts.  ``accept`` is :data:`TEXT` or :data:`JSON`.
    """

    __slots__ = ("accept", "headers", "method", "path", "version")

    def __init__(
        self,
        method: str,
        path: str,
        version: str,
        headers: dict[str, tuple[str, str]],
        accept: str,
    ) -> None:
        self.method = method
        self.path = path
        self.version = version
        self.headers = headers
        self.accept = accept

    def header(self, *names: str) -> tuple[str, str] | None:
        """Name as sent and value of the first of ``names`` (in lower case) that is there."""
        for name in names:
            found = self.headers.get(name)
            if found is not None:
                return found
        return None


def request_end(buffer: bytearray) -> int:
    """How many bytes the first request in ``buffer`` has; 0 if its empty line is not there yet.

    A line feed alone ends a line here, so that a malformed request is answered, not waited for.
    """
    ends = [
        at + len(empty_line)
        for empty_line in (b"\n\n", b"\n\r\n")
        if (at := buffer.find(empty_line)) >= 0
    ]
    return min(ends, default=0)


def parse_request(data: bytes) -> Request:
    """The request in ``data``, which ends with its empty line.

    Raises:
        HttpError: the guest gets its status and text.
    """
    line, crlf, rest = data.partition(b"\r\n")
    if not crlf or len(line) < REQUEST_LINE_MIN or not data.endswith(b"\r\n\r\n"):
        raise _invalid_request()
    parts = line.split(b" ", 2)
    if len(parts) != 3:
        raise _invalid_request()
    method, uri, version = parts
    if method not in (name.encode() for name in METHODS):
        raise HttpError(501, "Unsupported HTTP method.")
    path = _path(uri)
    if version not in (name.encode() for name in VERSIONS):
        raise HttpError(501, "Unsupported HTTP version.")
    headers, accept = _parse_headers(rest[:-2])
    return Request(method.decode(), path, version.decode(), headers, accept)


def _invalid_request() -> HttpError:
    return HttpError(400, "Invalid request.")


def _path(uri: bytes) -> str:
    """The path of ``/path`` or ``http://host/path``; empty for any other URI."""
    if not uri:
        raise HttpError(400, "Empty URI not allowed.")
    try:
        text = uri.decode()
    except UnicodeDecodeError as error:
        raise HttpError(400, "Cannot parse URI as UTF-8.") from error
    if text.startswith("http://"):
        _, slash, path = text.removeprefix("http://").partition("/")
        return slash + path
    return text if text.startswith("/") else ""


def _parse_headers(lines: bytes) -> tuple[dict[str, tuple[str, str]], str]:
    """The headers, and which format the guest accepts."""
    try:
        text = lines.decode()
    except UnicodeDecodeError as error:
        raise _invalid_request() from error
    headers: dict[str, tuple[str, str]] = {}
    accept = TEXT
    has_body = False
    for line in text.split("\r\n"):
        if not line:
            break
        name, colon, raw = line.partition(":")
        if not colon:
            raise HttpError(400, f"Header is incorrectly formatted. Key: {name}")
        value = raw.strip()
        key = name.strip().lower()
        headers[key] = name, value
        if key == "content-length":
            length = parse_u32(value)
            if length is None:
                raise HttpError(400, f"Invalid value. Key:{name}; Value:{raw}")
            has_body = length > 0
        elif key == "accept" and value in (TEXT, JSON):
            accept = value
        elif key == "accept-encoding":
            _check_encodings(value)
    if has_body:
        raise _invalid_request()
    return headers, accept


def _check_encodings(value: str) -> None:
    """A response is never encoded: a guest that refuses that is told."""
    if not value:
        raise _invalid_request()
    for encoding in value.split(","):
        item = encoding.strip()
        if item == "identity;q=0" or (item == "*;q=0" and "identity" not in value):
            raise HttpError(400, f"Invalid value. Key:Accept-Encoding; Value:{encoding}")


def parse_u32(text: str) -> int | None:
    """An unsigned 32-bit number in decimal, or None."""
    digits = text.removeprefix("+")
    if not (digits.isascii() and digits.isdigit()):
        return None
    number = int(digits)
    return number if number <= U32_MAX else None


def build_response(
    version: str,
    status: int,
    body: str,
    content_type: str = TEXT,
    extra: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """A whole response; ``extra`` headers stand before those that describe the body."""
    payload = body.encode()
    lines = [
        f"{version} {status} ",
        "Server: Firecracker API",
        "Connection: keep-alive",
        *(f"{name}: {value}" for name, value in extra),
        f"Content-Type: {content_type}",
        f"Content-Length: {len(payload)}",
        "\r\n",
    ]
    return "\r\n".join(lines).encode() + payload
