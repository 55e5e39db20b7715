"""The HTTP parser: what it accepts, what it says about the rest, and that cuts do not matter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.api.http import (
    MAX_LINE,
    TOO_MANY_CONNECTIONS,
    BadRequest,
    Continue,
    Request,
    RequestParser,
    bad_request,
    response,
)


def shown(event):
    if isinstance(event, Request):
        return (event.method, event.path, event.version, event.body)
    if isinstance(event, BadRequest):
        return event.reason
    return Continue


def parse(*chunks, limit=51200):
    parser = RequestParser(limit)
    return [shown(event) for chunk in chunks for event in parser.feed(chunk)]


def get(path="/", version="HTTP/1.1"):
    return ("GET", path, version, None)


GET = b"GET / HTTP/1.1\r\n\r\n"
NEVER = b"\r\n\r\n"


def test_a_request_without_a_body_is_complete_after_the_empty_line():
    parser = RequestParser()
    assert parser.feed(b"GET /a HTTP/1.0\r\nHost: x\r\n") == []
    assert [shown(e) for e in parser.feed(b"\r\n")] == [get("/a", "HTTP/1.0")]


def test_a_body_has_the_length_that_was_said():
    data = b"PUT /x HTTP/1.1\r\ncontent-LENGTH :  5 \r\n\r\nhelloGET / HTTP/1.1\r\n\r\n"
    assert parse(data) == [("PUT", "/x", "HTTP/1.1", b"hello"), get()]


@pytest.mark.parametrize("header", [b"Content-Length: 0", b"Content-Length: +0", b"X: y"])
def test_no_length_is_no_body(header):
    assert parse(b"PUT /x HTTP/1.1\r\n" + header + NEVER) == [("PUT", "/x", "HTTP/1.1", None)]


def test_a_chunked_body_is_noticed_and_not_decoded():
    data = b"PUT /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert parse(data) == [("PUT", "/x", "HTTP/1.1", None)]


def test_pipelined_requests_come_in_order():
    paths = [f"/{i}" for i in range(50)]
    data = b"".join(f"GET {path} HTTP/1.1\r\n\r\n".encode() for path in paths)
    assert [event[1] for event in parse(data)] == paths


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        (b"/a/b", "/a/b"),
        (b"http://localhost/a", "/a"),
        (b"http://localhost:80/a?b", "/a?b"),
        (b"http://localhost", ""),
        (b"http://", ""),
        (b"a", ""),
        ("/é".encode(), "/é"),
    ],
)
def test_uri_forms(uri, path):
    assert parse(b"GET " + uri + b" HTTP/1.1" + NEVER) == [get(path)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"POST / HTTP/1.1", "Invalid HTTP Method: Unsupported HTTP method."),
        (b"HEAD / HTTP/1.1", "Invalid HTTP Method: Unsupported HTTP method."),
        (b"get / HTTP/1.1", "Invalid HTTP Method: Unsupported HTTP method."),
        (b"GET / HTTP/2.0", "Invalid HTTP Version: Unsupported HTTP version."),
        (b"GET / http/1.1", "Invalid HTTP Version: Unsupported HTTP version."),
        (b"GET / HTTP/1.1 ", "Invalid HTTP Version: Unsupported HTTP version."),
        (b"GET  HTTP/1.1", "Invalid URI: Empty URI not allowed."),
        (b"GET /\xff HTTP/1.1", "Invalid URI: Cannot parse URI as UTF-8."),
        (b"GET /", "Invalid request."),
        (b"GET", "Invalid request."),
        (b"", "Invalid request."),
    ],
)
def test_bad_request_lines_are_named_and_forgotten(line, reason):
    assert parse(line + NEVER + GET) == [reason, get()]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"Content-Length: alpha", "Invalid value. Key:Content-Length; Value: alpha"),
        (b"Content-Length:-1", "Invalid value. Key:Content-Length; Value:-1"),
        (b"Content-Length: 4294967296", "Invalid value. Key:Content-Length; Value: 4294967296"),
        (b"Content-Length: 1: 2", "Invalid value. Key:Content-Length; Value: 1: 2"),
        (b"Content-Length: \xc2\xb2", "Invalid value. Key:Content-Length; Value: ²"),
        (b"no colon", "Header is incorrectly formatted. Key: no colon"),
        (
            b"Accept-Encoding: identity;q=0",
            "Invalid value. Key:Accept-Encoding; Value:identity;q=0",
        ),
        (b"Accept-Encoding: gzip, *;q=0", "Invalid value. Key:Accept-Encoding; Value: *;q=0"),
        (
            b"X: \xff",
            "Header contains invalid characters. Key: invalid utf-8 sequence of 1 bytes from "
            "index 3",
        ),
        (
            b"X: \xe2\x82",
            "Header contains invalid characters. Key: incomplete utf-8 byte sequence from index 3",
        ),
    ],
)
def test_bad_headers_are_named_and_their_message_forgotten(header, reason):
    data = b"PUT /x HTTP/1.1\r\nContent-Length: 3\r\n" + header + b"\r\nA: b\r\n\r\nxyz" + GET
    assert parse(data) == [f"Invalid header. Reason: {reason}", get()]


def test_an_empty_accept_encoding_is_an_invalid_request():
    assert parse(b"GET / HTTP/1.1\r\nAccept-Encoding: \r\n\r\n") == ["Invalid request."]


@pytest.mark.parametrize(
    "header",
    [
        b"Accept-Encoding: gzip;q=0, *",
        b"Accept-Encoding: *;q=0, identity",
        b"Accept: text/html",
        b"Content-Type: text/xml",
        b"Expect: 103-checkpoint",
        b"Transfer-Encoding: identity; q=0",
        b"Authorization: a:b:c",
        b": nothing",
    ],
)
def test_other_headers_are_ignored(header):
    assert parse(b"GET / HTTP/1.1\r\n" + header + NEVER) == [get()]


def test_the_client_that_expects_it_is_told_to_continue_before_the_body():
    head = b"PUT /x HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    assert parse(head, b"{}") == [Continue, ("PUT", "/x", "HTTP/1.0", b"{}")]
    assert parse(b"GET / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n") == [get()]


def test_a_line_may_have_1024_bytes_with_its_end():
    path = "/" + "a" * (MAX_LINE - len("GET  HTTP/1.1\r\n") - 1)
    assert parse(f"GET {path} HTTP/1.1\r\n\r\n".encode()) == [get(path)]
    assert parse(f"GET {path}a HTTP/1.1\r\n\r\n".encode() + GET) == ["Invalid request.", get()]
    value = "v" * (MAX_LINE - len("X: \r\n"))
    assert parse(f"GET / HTTP/1.1\r\nX: {value}\r\n\r\n".encode()) == [get()]
    header = f"X: {value}v\r\n"
    assert parse(f"GET / HTTP/1.1\r\n{header}\r\n".encode() + GET) == [
        f"Invalid header. Reason: Invalid content length. Header: {header[:MAX_LINE]}",
        get(),
    ]


def test_an_endless_line_is_refused_once_and_not_kept():
    parser = RequestParser()
    events = [shown(e) for _ in range(100) for e in parser.feed(b"x" * 1000)]
    assert events == ["Invalid request."]
    assert len(parser._buffer) < MAX_LINE


def test_a_body_over_the_limit_is_refused_before_it_comes_and_passed_over():
    head = b"PUT /x HTTP/1.1\r\nContent-Length: 260\r\n\r\n"
    reason = "Request payload with size 260 is larger than the limit of 250 allowed by server."
    assert parse(head, limit=250) == [reason]
    assert parse(head + b"\r\n" * 130 + GET, limit=250) == [reason, get()]
    assert parse(head.replace(b"260", b"250") + b"x" * 250, limit=250)[0][3] == b"x" * 250


def test_a_client_that_waited_keeps_a_refused_body_to_itself():
    head = b"PUT /x HTTP/1.1\r\nContent-Length: 260\r\nExpect: 100-continue\r\n\r\n"
    assert parse(head + GET, limit=250)[1:] == [get()]


def test_garbage_without_headers_does_not_swallow_the_next_request():
    assert parse(b"garbage\r\n", GET) == ["Invalid request.", get()]


def test_the_body_of_a_bad_request_is_passed_over():
    data = b"POST /x HTTP/1.1\r\nContent-Length: 7\r\n\r\nGET / H" + GET
    assert parse(data) == ["Invalid HTTP Method: Unsupported HTTP method.", get()]


PIECES = st.sampled_from(
    [
        GET,
        b"PUT /a HTTP/1.1\r\nContent-Length: 4\r\n\r\n{}\r\n",
        b"PUT /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
        b"PUT /a HTTP/1.1\r\nContent-Length: 99\r\n\r\n",
        b"PUT /a HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b"garbage",
        b"x" * 700,
        b"Header: x\r\n",
    ]
)


@given(st.lists(PIECES | st.binary(max_size=40), max_size=12), st.lists(st.integers(1, 900)))
def test_how_the_bytes_are_cut_does_not_matter(pieces, cuts):
    data = b"".join(pieces)
    chunks = []
    rest = data
    for cut in cuts:
        chunks.append(rest[:cut])
        rest = rest[cut:]
    assert parse(*chunks, rest, limit=50) == parse(data, limit=50)


@given(st.lists(PIECES, max_size=6))
def test_byte_by_byte_is_the_same_as_at_once(pieces):
    data = b"".join(pieces)
    assert parse(*(data[i : i + 1] for i in range(len(data))), limit=50) == parse(data, limit=50)


@given(st.lists(st.binary(max_size=2000), max_size=5))
def test_random_bytes_give_events_and_bounded_memory(chunks):
    parser = RequestParser(100)
    for chunk in chunks:
        for event in parser.feed(chunk):
            shown(event)
    assert len(parser._buffer) < MAX_LINE + 100


# ------------------------------------------------------------------- responses


def test_responses_without_content_end_after_the_headers():
    assert response(204) == (
        b"HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n"
    )
    assert response(100, version="HTTP/1.0").startswith(b"HTTP/1.0 100 \r\n")


def test_headers_come_in_their_order():
    assert response(400, b"{}", is_deprecated=True, allow=("GET", "PUT")) == (
        b"HTTP/1.1 400 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n"
        b"Allow: GET, PUT\r\nDeprecation: true\r\n"
        b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )


@pytest.mark.parametrize(("size", "limit", "length"), [(260, 250, 145), (51201, 51200, 149)])
def test_the_refusal_of_a_large_body_is_the_known_one(size, limit, length):
    reason = (
        f"Request payload with size {size} is larger than the limit of {limit} allowed by server."
    )
    assert (
        bad_request(reason)
        == (
            "HTTP/1.1 400 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n"
            f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
            f'{{ "error": "{reason}\nAll previous unanswered requests will be dropped." }}'
        ).encode()
    )


def test_the_refusal_of_a_connection_says_how_long_it_is():
    head, _, body = TOO_MANY_CONNECTIONS.partition(NEVER)
    assert head.startswith(b"HTTP/1.1 503\r\n")
    assert head.endswith(b"Content-Length: 40")
    assert len(body) == 40
