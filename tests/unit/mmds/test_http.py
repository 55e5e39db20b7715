"""Requests of a guest, as bytes: where one ends, what is in it, and what is refused how."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.mmds.http import (
    JSON,
    TEXT,
    HttpError,
    build_response,
    parse_request,
    parse_u32,
    request_end,
)


@pytest.mark.parametrize(
    ("buffer", "end"),
    [
        (b"", 0),
        (b"GET / HTTP/1.1\r\n", 0),
        (b"GET / HTTP/1.1\r\n\r", 0),
        (b"GET / HTTP/1.1\r\n\r\n", 18),
        (b"GET / HTTP/1.1\r\n\r\nGET", 18),
        (b"x\n\ny\n\r\n", 3),
        (b"x\n\r\ny\n\n", 4),
        (b"\n\n", 2),
    ],
)
def test_a_request_ends_with_its_empty_line(buffer, end):
    assert request_end(bytearray(buffer)) == end


def test_a_request_is_read():
    request = parse_request(
        b"GET http://169.254.169.254/a//b HTTP/1.0\r\n"
        b"Accept: application/json\r\n"
        b"X-METADATA-token:  abc \r\n"
        b"x-odd:a:b\r\n\r\n"
    )
    assert (request.method, request.path, request.version) == ("GET", "/a//b", "HTTP/1.0")
    assert request.accept == JSON
    assert request.header("x-metadata-token") == ("X-METADATA-token", "abc")
    assert request.header("nothing", "x-odd") == ("x-odd", "a:b")
    assert request.header("nothing") is None


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("/", "/"),
        ("/a/b?c=d", "/a/b?c=d"),
        ("http://host/a", "/a"),
        ("http://host:80/", "/"),
        ("http://host", ""),
        ("http://", ""),
        ("a/b", ""),
        ("*", ""),
        ("https://host/a", ""),
        ("/\u00e9", "/\u00e9"),
    ],
)
def test_the_path_of_a_uri_begins_with_a_slash(uri, path):
    assert parse_request(f"DELETE {uri} HTTP/1.1\r\n\r\n".encode()).path == path


@pytest.mark.parametrize(
    ("value", "accept"),
    [
        ("application/json", JSON),
        ("  application/json  ", JSON),
        ("text/plain", TEXT),
        ("*/*", TEXT),
        ("", TEXT),
        ("application/json, text/plain", TEXT),
        ("application/JSON", TEXT),
    ],
)
def test_json_is_sent_to_who_accepts_exactly_that(value, accept):
    assert parse_request(f"GET / HTTP/1.1\r\naccept: {value}\r\n\r\n".encode()).accept == accept


@pytest.mark.parametrize(
    ("data", "status", "message"),
    [
        (b"\r\n\r\n", 400, "Invalid request."),
        (b"GET\r\n\r\n", 400, "Invalid request."),
        (b"GET / HTTP\r\n\r\n", 400, "Invalid request."),
        (b"GET /aaaaaaaaaaaaaaaaaaa\r\n\r\n", 400, "Invalid request."),
        (b"GET / HTTP/1.1\n\n", 400, "Invalid request."),
        (b"GET / HTTP/1.1\n\r\n", 400, "Invalid request."),
        (b"GET / HTTP/1.1\r\na: b\n\n", 400, "Invalid request."),
        (b"GET / HTTP/1.1\r\na: \xff\r\n\r\n", 400, "Invalid request."),
        (b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", 400, "Invalid request."),
        (b"PUT / HTTP/1.1\r\ncontent-length:100\r\n\r\n", 400, "Invalid request."),
        (b"GET / HTTP/1.1\r\nAccept-Encoding: \r\n\r\n", 400, "Invalid request."),
        (b"POST / HTTP/1.1\r\n\r\n", 501, "Unsupported HTTP method."),
        (b"HEAD / HTTP/1.1\r\n\r\n", 501, "Unsupported HTTP method."),
        (b"get / HTTP/1.1\r\n\r\n", 501, "Unsupported HTTP method."),
        (b"GET  HTTP/1.1 \r\n\r\n", 400, "Empty URI not allowed."),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400, "Cannot parse URI as UTF-8."),
        (b"GET / HTTP/2.0\r\n\r\n", 501, "Unsupported HTTP version."),
        (b"GET / HTTP/1.1 \r\n\r\n", 501, "Unsupported HTTP version."),
        (
            b"GET / HTTP/1.1\r\nnonsense\r\n\r\n",
            400,
            "Header is incorrectly formatted. Key: nonsense",
        ),
        (
            b"GET / HTTP/1.1\r\nContent-Length: alpha\r\n\r\n",
            400,
            "Invalid value. Key:Content-Length; Value: alpha",
        ),
        (
            b"GET / HTTP/1.1\r\nContent-Length: 4294967296\r\n\r\n",
            400,
            "Invalid value. Key:Content-Length; Value: 4294967296",
        ),
        (
            b"GET / HTTP/1.1\r\nAccept-Encoding: gzip, identity;q=0\r\n\r\n",
            400,
            "Invalid value. Key:Accept-Encoding; Value: identity;q=0",
        ),
        (
            b"GET / HTTP/1.1\r\nAccept-Encoding: *;q=0\r\n\r\n",
            400,
            "Invalid value. Key:Accept-Encoding; Value:*;q=0",
        ),
    ],
)
def test_what_cannot_be_understood_is_refused_with_a_sentence(data, status, message):
    with pytest.raises(HttpError) as caught:
        parse_request(data)
    assert (caught.value.status, str(caught.value)) == (status, message)


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Length: 0",
        b"Accept-Encoding: gzip",
        b"Accept-Encoding: identity, *;q=0",
        b"Expect: 100-continue",
        b"Transfer-Encoding: chunked",
        b"Content-Type: whatever",
        b"Connection: close",
    ],
)
def test_headers_that_do_not_matter_are_ignored(header):
    assert parse_request(b"GET / HTTP/1.1\r\n" + header + b"\r\n\r\n").path == "/"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("+60", 60),
        ("0060", 60),
        ("4294967295", 0xFFFF_FFFF),
        ("4294967296", None),
        ("-1", None),
        ("", None),
        ("+", None),
        ("++1", None),
        ("1_0", None),
        (" 1", None),
        ("1.0", None),
        ("\u0661", None),
        ("0x10", None),
    ],
)
def test_a_number_is_what_rust_parses_as_u32(text, number):
    assert parse_u32(text) == number


def test_a_response_has_its_headers_in_order():
    assert build_response("HTTP/1.0", 200, "\u00e9", JSON, (("X-A", "1"),)) == (
        b"HTTP/1.0 200 \r\n"
        b"Server: Firecracker API\r\n"
        b"Connection: keep-alive\r\n"
        b"X-A: 1\r\n"
        b"Content-Type: application/json\r\n"
        b"Content-Length: 2\r\n\r\n\xc3\xa9"
    )


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_request_or_refused_by_name(data):
    try:
        request = parse_request(data + b"\r\n\r\n")
    except HttpError:
        return
    assert request.path == "" or request.path.startswith("/")


@given(
    st.lists(
        st.sampled_from(
            [
                b"GET",
                b"PUT",
                b" ",
                b"/",
                b"http://",
                b"HTTP/1.1",
                b"\r\n",
                b"\n",
                b":",
                b"a",
                b"\xc3",
            ]
        ),
        max_size=20,
    )
)
def test_the_end_of_a_request_does_not_depend_on_how_much_follows(parts):
    buffer = bytearray(b"".join(parts))
    end = request_end(buffer)
    assert 0 <= end <= len(buffer)
    if end:
        assert request_end(buffer[:end]) == end
        assert request_end(buffer[: end - 1]) == 0
