"""HTTP/1.1 as the API socket speaks it, without I/O: shared by the sync and the async client."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


class ProtocolError(Exception):
    """What came back is not a response of a VMM."""


@dataclass(frozen=True)
class Response:
    """A parsed response; ``body`` is empty for 204."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the request was carried out."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body as JSON, None where there is none."""
        return json.loads(self.body) if self.body else None

    @property
    def fault(self) -> str:
        """The VMM's own words for a refusal."""
        try:
            answer = json.loads(self.body)
        except ValueError:
            return self.body.decode(errors="replace")
        return str(answer.get("fault_message") or answer.get("error") or answer)


def build_request(method: str, path: str, body: object = None) -> bytes:
    """The bytes of one request; ``body`` is sent as compact JSON unless it is None."""
    payload = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n"
    return head.encode("ascii") + b"\r\n" + payload


class ResponseParser:
    """Bytes in, one response out."""

    MAX_HEAD = 16 << 10

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Response | None:
        """More bytes from the socket; the response once it is complete.

        Raises:
            ProtocolError: this is not HTTP.
        """
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            if len(self._buffer) > self.MAX_HEAD:
                raise ProtocolError("the VMM's response has no end of its header")
            return None
        status, headers = self._parse_head(head.decode("latin-1"))
        size = int(headers.get("content-length", "0"))
        if len(rest) < size:
            return None
        return Response(status, headers, rest[:size])

    def _parse_head(self, head: str) -> tuple[int, dict[str, str]]:
        first, *lines = head.split("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise ProtocolError(f"not an HTTP response: {first!r}")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return int(words[1]), headers
