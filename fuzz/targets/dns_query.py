"""Questions to a program's name server."""

from __future__ import annotations

from pyrovm.unikernel import addresses as ip
from pyrovm.unikernel import dns

ADDRESSES = [ip.V4 | number for number in range(30)] + [1 << 100 | number for number in range(30)]


def one_input(data: bytes) -> None:
    """The first byte is how; the rest is a datagram.  There is at most one answer, well-formed."""
    how, data = data[:1] or b"\0", data[1:]
    query = dns.parse(data)
    if query is None:
        assert len(data) < 12 or data[2] & 0x80
        return
    assert len(query.name) <= 255
    assert query.name.isascii()
    assert dns.PLAIN_SIZE <= query.size <= dns.MOST_SIZE
    addresses = [] if query.error else ADDRESSES[how[0] & 31 :]
    answer = dns.response(query, query.error, addresses, stream=bool(how[0] & 32))
    assert answer[:2] == data[:2]
    assert answer[2] & 0x80
    assert answer[3] & 15 == query.error
    assert query.question in data
    assert answer[12 : 12 + len(query.question)] == query.question
    assert len(answer) <= query.size or how[0] & 32
    count = int.from_bytes(answer[6:8], "big")
    size = {dns.A: 16, dns.AAAA: 28}.get(query.type, 0)
    assert len(answer) == 12 + len(query.question) + count * size + (11 if query.has_edns else 0)


_HEADER = b"\x12\x34\x01\x00\0\1\0\0\0\0\0"
SEEDS = [
    b"\0" + _HEADER + b"\0\7example\3com\0\0\1\0\1",
    b"\x20" + _HEADER + b"\0\1a\0\0\x1c\0\1",
    b"\0" + _HEADER + b"\1\3www\7example\3com\0\0\1\0\1\0\0\x29\x10\0\0\0\0\0\0\0",
    b"\0" + _HEADER + b"\0\xc0\x0c\0\1\0\1",
]
WORDS = (
    b"\0\0\x29\x10\0\0\0\0\0\0\0",
    b"\xc0\x0c",
    b"\x3f" + b"a" * 63,
    b"\0\0\1\0\1",
    b"\0\0\x1c\0\1",
)
