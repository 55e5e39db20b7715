"""The API's HTTP parser: the bytes of a client, cut anywhere."""

from __future__ import annotations

from pyrovm.api.http import MAX_LINE, BadRequest, Continue, Request, RequestParser, bad_request

LIMIT = 200  # bytes of a body


def one_input(data: bytes) -> None:
    """The first byte says how the rest is cut; that makes no difference to what comes out."""
    if not data:
        return
    step, stream = data[0] + 1, data[1:]
    whole = _events(stream, len(stream) or 1)
    cut = _events(stream, step)
    assert [_plain(event) for event in cut] == [_plain(event) for event in whole]
    for event in whole:
        if isinstance(event, Request):
            assert event.method in ("GET", "PUT", "PATCH", "DELETE")
            assert event.path == "" or event.path.startswith("/")
            assert event.body is None or 0 < len(event.body) <= LIMIT
        elif isinstance(event, BadRequest):
            head, _, body = bad_request(event.reason).partition(b"\r\n\r\n")
            assert head.endswith(f"Content-Length: {len(body)}".encode())
        else:
            assert isinstance(event, Continue)
    assert len(whole) <= 2 * len(stream) + 1


def _events(stream: bytes, step: int) -> list[object]:
    parser = RequestParser(LIMIT)
    events: list[object] = []
    for at in range(0, len(stream), step):
        events += parser.feed(stream[at : at + step])
        assert len(parser._buffer) <= max(MAX_LINE, LIMIT) + step, "it holds one message at most"
    return events


def _plain(event: object) -> tuple[object, ...]:
    names: tuple[str, ...] = type(event).__slots__  # type: ignore[attr-defined]
    return type(event).__name__, *(getattr(event, name) for name in names)


SEEDS = [
    b"\xffGET / HTTP/1.1\r\n\r\n",
    b"\x00PUT /machine-config HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}GET /vm HTTP/1.0\r\n\r\n",
    b"\x03PATCH /vm HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    b"\x05PUT / HTTP/1.1\r\nContent-Length: 201\r\n\r\n" + b"x" * 201 + b"GET / HTTP/1.1\r\n\r\n",
    b"\x07POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
    b"\x09GET /" + b"a" * 1100 + b" HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    b"\x10GET http://h/x HTTP/1.1\r\nAccept-Encoding: *;q=0\r\nA: " + b"b" * 1030 + b"\r\n\r\n",
]
WORDS = (
    *(b"GET ", b"PUT ", b"PATCH ", b"DELETE ", b"/", b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\r"),
    *(b"\r\n\r\n", b"Content-Length: ", b"Expect: 100-continue\r\n", b"5\r\n", b"4294967296\r\n"),
    *(b"Accept-Encoding: ", b"identity;q=0", b"*;q=0", b": ", b"\xff", b"x" * 512, b"http://"),
)
