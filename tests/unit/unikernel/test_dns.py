"""Questions to the name server, and its answers."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.unikernel import addresses as ip
from pyrovm.unikernel import dns


def question(name="example.com", kind=dns.A, *, tail=b"", additional=0, flags=0x0100):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".") if part)
    header = b"\x12\x34" + flags.to_bytes(2, "big") + b"\0\1\0\0\0\0" + bytes([0, additional])
    return header + labels + b"\0" + kind.to_bytes(2, "big") + b"\0\1" + tail


EDNS = b"\0\x00\x29\x10\x00\0\0\0\0\0\0"


def code(answer):
    return answer[3] & 15


def test_a_question_is_read():
    query = dns.parse(question("WWW.Example.com", dns.AAAA))
    assert (query.name, query.type, query.error) == ("WWW.Example.com", dns.AAAA, dns.NOERROR)


def test_an_answer_has_the_addresses_of_its_type():
    four, six = ip.parse("1.2.3.4"), ip.parse("2001:db8::1")
    answer = dns.response(dns.parse(question()), dns.NOERROR, [six, four])
    assert answer[:8] == b"\x12\x34\x81\x80\0\1\0\1"
    assert answer.endswith(b"\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4\1\2\3\4")
    answer = dns.response(dns.parse(question(kind=dns.AAAA)), dns.NOERROR, [six, four])
    assert answer.endswith(b"\0\x10" + six.to_bytes(16, "big"))
    # The question comes back byte for byte: resolvers compare its letters.
    assert question("eXample.com")[12:] in dns.response(dns.parse(question("eXample.com")), 0)


def test_what_does_not_fit_is_said_to_be_cut_and_fits_with_edns_or_tcp():
    many = [ip.V4 | number for number in range(24)]
    long = ".".join(["a" * 60] * 3)
    plain = dns.response(dns.parse(question(long)), dns.NOERROR, many)
    assert len(plain) <= 512
    assert plain[2] & 2
    query = dns.parse(question(long, tail=EDNS, additional=1))
    assert (query.has_edns, query.size) == (True, 1232)
    wide = dns.response(query, dns.NOERROR, many)
    assert not wide[2] & 2
    assert wide[7] == 24
    stream = dns.response(dns.parse(question(long)), dns.NOERROR, many, stream=True)
    assert not stream[2] & 2


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (question()[:20], dns.FORMERR),
        (question(tail=b"")[:-1], dns.FORMERR),
        (question(flags=0x0900), dns.NOTIMP),
        (question()[:-1] + b"\3", dns.NOTIMP),  # class CHAOS
        (question()[:12] + b"\xc0\x0c" + b"\0\1\0\1", dns.FORMERR),
        (question()[:5] + b"\2" + question()[6:], dns.FORMERR),
        (question("a.b c.d"), dns.FORMERR),
        (question(".".join(["a" * 63] * 4)), dns.FORMERR),
    ],
)
def test_what_is_malformed_is_answered_with_an_error(data, error):
    query = dns.parse(data)
    assert query.error == error
    assert code(dns.response(query, query.error)) == error


def test_answers_and_scraps_are_not_answered():
    assert dns.parse(question(flags=0x8000)) is None
    assert dns.parse(b"\0" * 11) is None


@given(st.binary(max_size=300), st.integers(0, 30))
def test_any_bytes_get_at_most_one_well_formed_answer(data, count):
    query = dns.parse(data)
    if query is None:
        return
    answer = dns.response(query, query.error, [ip.V4 | n for n in range(count)])
    assert answer[:2] == data[:2]
    assert answer[2] & 0x80
    assert len(answer) <= max(query.size, len(data) + 11)


def test_mutated_questions_do_no_harm():
    choose = random.Random(1)
    for _ in range(5000):
        data = bytearray(question(tail=EDNS, additional=1))
        for _ in range(choose.randrange(1, 4)):
            data[choose.randrange(len(data))] = choose.randrange(256)
        query = dns.parse(bytes(data))
        if query is not None:
            assert len(dns.response(query, query.error, [ip.LOOPBACK4])) <= dns.MOST_SIZE + 300
