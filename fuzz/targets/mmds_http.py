"""The metadata service's HTTP: requests of a guest as bytes."""

from __future__ import annotations

from fuzz.targets._mmds import Conversation, split_response
from pyrovm.mmds.http import request_end
from pyrovm.mmds.tcp import RECEIVE_BUFFER

MAX_SCANNED = 256  # bytes at which every prefix is tried


def one_input(data: bytes) -> None:
    """The first byte selects the configuration.  Every request in the rest gets one well-formed
    response, however the stream is cut.
    """
    options, stream = data[:1], data[1 : 1 + RECEIVE_BUFFER]
    service = Conversation(
        "V2" if options and options[0] & 1 else "V1",
        imds_compat=bool(options and options[0] & 2),
    ).service
    ends = []
    left = bytearray(stream)
    while end := request_end(left):
        assert 0 < end <= len(left)
        status, headers, body = split_response(service.respond(bytes(left[:end])))
        assert status in (200, 400, 401, 404, 405, 501)
        assert headers["Content-Type"] in ("text/plain", "application/json")
        assert int(headers["Content-Length"]) == len(body)
        assert headers["Content-Type"] == "text/plain" or status == 200
        ends.append(end)
        del left[:end]
    assert ends == _ends_byte_by_byte(stream[:MAX_SCANNED]) or len(stream) > MAX_SCANNED


def _ends_byte_by_byte(stream: bytes) -> list[int]:
    """Where requests end for one who looks after every byte."""
    ends = []
    buffer = bytearray()
    for byte in stream:
        buffer.append(byte)
        end = request_end(buffer)
        if end:
            assert end == len(buffer)
            ends.append(end)
            buffer.clear()
    return ends


TOKEN = Conversation().token.encode()
SEEDS = [
    b"\0GET / HTTP/1.1\r\n\r\n",
    b"\0GET http://169.254.169.254/latest/meta-data/ HTTP/1.0\r\nAccept: application/json\r\n\r\n",
    b"\1PUT /latest/api/token HTTP/1.1\r\nX-metadata-token-ttl-seconds: 60\r\n\r\n",
    b"\1GET /a HTTP/1.1\r\nX-metadata-token: x\r\n\r\nPATCH / HTTP/1.1\r\n\r\n",
    b"\0PUT /x HTTP/1.1\r\nX-Forwarded-For: a\r\nContent-Length: 5\r\n\r\nhello",
    b"\0GET /list/0 HTTP/1.1\nAccept-Encoding: identity;q=0, *;q=0\n\n",
    b"\1GET /a~1b/c~0d HTTP/1.1\r\nX-aws-ec2-metadata-token: " + TOKEN + b"\r\n\r\n",
    b"\3GET /list/1/b HTTP/1.1\r\nX-metadata-token: " + TOKEN + b"\r\n\r\n",
]
WORDS = (
    TOKEN,
    *(b"GET ", b"PUT ", b"PATCH ", b"DELETE ", b"http://", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n"),
    *(b"\r\n\r\n", b"\n\n", b"\r\n", b": ", b"/latest/api/token", b"Accept: application/json\r\n"),
    *(b"X-metadata-token: ", b"X-aws-ec2-metadata-token-ttl-seconds: ", b"Content-Length: 0\r\n"),
    *(b"Accept-Encoding: ", b"identity;q=0", b"*;q=0", b"X-Forwarded-For: ", b"~0", b"~1", b"//"),
)
