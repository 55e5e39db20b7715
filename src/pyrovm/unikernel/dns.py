"""Questions of the guest's resolver, and the answers: RFC 1035, 4.1, and EDNS (RFC 6891)."""

from __future__ import annotations

from struct import Struct

from pyrovm.unikernel import addresses as ip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

A, PTR, AAAA, OPT = 1, 12, 28, 41
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
TTL_S = 30
PLAIN_SIZE, MOST_SIZE = 512, 1232  # bytes of an answer without EDNS, and at most with it
QUERY_MAX = 1232
ANSWERS_MAX = 24

_HEADER = Struct(">6H")
_QUESTION = Struct(">2H")
_RECORD = Struct(">HHIH")  # behind the name: type, class, TTL, length
_QR, _OPCODE, _AA, _TC, _RD, _RA = 0x8000, 0x7800, 0x0400, 0x0200, 0x0100, 0x0080
_NAME_POINTER = b"\xc0\x0c"  # to the question's name


class Query:
    """One question; ``error`` is an rcode to answer with at once, or NOERROR."""

    __slots__ = ("error", "flags", "has_edns", "name", "number", "question", "size", "type")

    def __init__(self, number: int, flags: int) -> None:
        self.number = number
        self.flags = flags
        self.error = FORMERR
        self.name = ""
        self.type = 0
        self.question = b""
        self.has_edns = False
        self.size = PLAIN_SIZE


def parse(data: bytes) -> Query | None:
    """What is asked; None for what deserves no answer (too short, or an answer itself)."""
    if len(data) < _HEADER.size:
        return None
    number, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & _QR:
        return None
    query = Query(number, flags)
    if flags & _OPCODE:
        query.error = NOTIMP
        return query
    if questions != 1 or answers or authorities or len(data) > QUERY_MAX:
        return query
    found = _name(data, _HEADER.size)
    if found is None:
        return query
    query.name, end = found
    if end + _QUESTION.size > len(data):
        return query
    query.type, kind = _QUESTION.unpack_from(data, end)
    end += _QUESTION.size
    query.question = data[_HEADER.size : end]
    # A root name, type OPT: its class is the size that the guest takes.
    if additional and data[end : end + 3] == b"\0\0\x29" and end + 11 <= len(data):
        query.has_edns = True
        size = int.from_bytes(data[end + 3 : end + 5], "big")
        query.size = min(max(size, PLAIN_SIZE), MOST_SIZE)
    query.error = NOERROR if kind == IN else NOTIMP
    return query


def _name(data: bytes, at: int) -> tuple[str, int] | None:
    """The name at ``at`` and where it ends; a question's name is not compressed."""
    labels: list[str] = []
    start = at
    while at < len(data) and at - start < 255:
        length = data[at]
        at += 1
        if not length:
            return ".".join(labels), at
        if length > 63 or at + length > len(data):
            return None
        label = data[at : at + length]
        at += length
        if any(c <= 0x20 or c >= 0x7F or c == 0x2E for c in label):
            return None  # what no rule can name
        labels.append(label.decode("ascii"))
    return None


def response(
    query: Query, code: int, addresses: Sequence[int] = (), *, stream: bool = False
) -> bytes:
    """The answer: an rcode, and those of the addresses that the question's type has room for."""
    records = bytearray()
    count = 0
    flags = _QR | _RA | query.flags & (_OPCODE | _RD) | code
    tail = b""
    if query.has_edns:
        tail = b"\0" + _RECORD.pack(OPT, MOST_SIZE, 0, 0)
    room = (65535 if stream else query.size) - _HEADER.size - len(query.question) - len(tail)
    for address in addresses[:ANSWERS_MAX]:
        if ip.is_v4(address) != (query.type == A) or query.type not in (A, AAAA):
            continue
        raw = address.to_bytes(16, "big")[12 if query.type == A else 0 :]
        record = _NAME_POINTER + _RECORD.pack(query.type, IN, TTL_S, len(raw)) + raw
        if len(records) + len(record) > room:
            flags |= _TC
            break
        records += record
        count += 1
    header = _HEADER.pack(
        query.number, flags, 1 if query.question else 0, count, 0, 1 if tail else 0
    )
    return header + query.question + bytes(records) + tail
