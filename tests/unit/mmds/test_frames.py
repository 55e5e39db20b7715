"""Ethernet, ARP, IPv4 and TCP in bytes: golden packets, edges, and arbitrary bytes."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.errors import GuestError
from pyrovm.mmds.frames import (
    ACK,
    ETHERTYPE_ARP,
    PSH,
    SYN,
    FrameError,
    Segment,
    build_arp_reply,
    build_ethernet,
    build_ipv4,
    build_tcp,
    checksum,
    parse_arp_request,
    parse_ethernet,
    parse_ipv4,
    parse_tcp,
)

# What Linux 6 sends into a tap for `curl http://169.254.169.254`, as read from the tap: the ARP
# request and the SYN.
ARP_FRAME = bytes.fromhex(
    "ffffffffffffdeb3ea38a73708060001080006040001deb3ea38a737a9fe0102000000000000a9fea9fe"
)
SYN_FRAME = bytes.fromhex(
    "060123456701deb3ea38a7370800"
    "4500003c3e3b40004006fd83a9fe0102a9fea9fe"
    "8c2a0050293372b500000000a002faf05db80000"
    "020405b40402080aa275257e000000000103030a"
)
HERE, THERE = bytes((169, 254, 169, 254)), bytes((169, 254, 1, 2))


def slow_checksum(data):
    """RFC 1071, 4.1, word by word."""
    total = 0
    for (word,) in struct.iter_unpack("!H", data + b"\0" * (len(data) & 1)):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def test_an_arp_request_is_read():
    source, ethertype, packet = parse_ethernet(ARP_FRAME)
    assert source == bytes.fromhex("deb3ea38a737")
    assert ethertype == ETHERTYPE_ARP
    request = parse_arp_request(packet)
    assert request.sender_mac == source
    assert (request.sender_ip, request.target_ip) == (THERE, HERE)


def test_an_arp_reply_is_written():
    reply = build_arp_reply(b"\1" * 6, HERE, b"\2" * 6, THERE)
    assert reply == bytes.fromhex("0001080006040002") + b"\1" * 6 + HERE + b"\2" * 6 + THERE


@pytest.mark.parametrize(
    ("offset", "value"),
    [(0, b"\0\2"), (2, b"\x86\xdd"), (4, b"\5"), (5, b"\6"), (6, b"\0\2"), (6, b"\0\0")],
)
def test_other_arp_packets_are_refused(offset, value):
    packet = bytearray(parse_ethernet(ARP_FRAME)[2])
    packet[offset : offset + len(value)] = value
    with pytest.raises(FrameError):
        parse_arp_request(bytes(packet))


def test_a_syn_of_linux_is_read():
    datagram = parse_ipv4(parse_ethernet(SYN_FRAME)[2])
    assert (datagram.source, datagram.destination, datagram.protocol) == (THERE, HERE, 6)
    segment = parse_tcp(datagram.payload)
    assert (segment.source_port, segment.destination_port) == (0x8C2A, 80)
    assert (segment.seq, segment.flags, segment.window) == (0x293372B5, SYN, 0xFAF0)
    assert segment.mss == 1460
    assert segment.payload == b""
    assert segment.length == 1


def test_the_checksums_of_linux_are_ours():
    packet = parse_ethernet(SYN_FRAME)[2]
    assert checksum(packet[:20]) == 0
    assert checksum(THERE + HERE + b"\0\x06" + (40).to_bytes(2, "big") + packet[20:]) == 0


@pytest.mark.parametrize("cut", [0, 13])
def test_a_frame_without_a_whole_header_is_refused(cut):
    with pytest.raises(FrameError):
        parse_ethernet(SYN_FRAME[:cut])


def change(packet, offset, value):
    packet = bytearray(packet)
    packet[offset : offset + len(value)] = value
    return bytes(packet)


@pytest.mark.parametrize(
    ("offset", "value", "words"),
    [
        (0, b"\x65", "version 6"),
        (0, b"\x44", "header of 16 bytes"),
        (0, b"\x4f", "total length of 60 in a packet of 40"),
        (2, b"\0\x13", "total length of 19"),
        (2, b"\xff\xff", "total length of 65535"),
        (6, b"\x20\0", "fragment"),
        (6, b"\0\1", "fragment"),
    ],
)
def test_an_ipv4_header_that_does_not_fit_is_refused(offset, value, words):
    packet = build_ipv4(THERE, HERE, 6, b"x" * 20)
    if value == b"\x4f":
        packet = change(packet, 2, b"\0\x3c")
    with pytest.raises(FrameError, match=words):
        parse_ipv4(change(packet, offset, value))


def test_ipv4_options_and_ethernet_padding_are_skipped():
    packet = change(build_ipv4(THERE, HERE, 17, b"OOOO" + b"data"), 0, b"\x46")
    assert parse_ipv4(packet + b"padding").payload == b"data"


def test_a_datagram_has_at_most_65535_bytes():
    assert len(build_ipv4(THERE, HERE, 6, b"x" * 65_515)) == 65_535
    with pytest.raises(ValueError, match="65536 bytes"):
        build_ipv4(THERE, HERE, 6, b"x" * 65_516)


@pytest.mark.parametrize(
    ("options", "mss"),
    [
        (b"", None),
        (b"\1\1\1\1", None),
        (b"\2\4\5\xb4", 1460),
        (b"\1\1\2\4\2\x18\1\1", 536),
        (b"\0\2\4\5\xb4\0\0\0", None),
        (b"\x08\x0a12345678\2\4\0\1\1\1", 1),
    ],
)
def test_the_maximum_segment_size_is_found_among_the_options(options, mss):
    header = struct.pack("!HHIIBBHHH", 1, 80, 0, 0, (20 + len(options)) << 2, SYN, 0, 0, 0)
    segment = parse_tcp(header + options + b"text")
    assert segment.mss == mss
    assert segment.payload == b"text"


@pytest.mark.parametrize(
    "options", [b"\2\3\5\0", b"\2\5\0\0", b"\3\0\0\0", b"\3\1\0\0", b"\1\1\1\2", b"\x08\x0a\0\0"]
)
def test_options_that_do_not_fit_are_refused(options):
    header = struct.pack("!HHIIBBHHH", 1, 80, 0, 0, (20 + len(options)) << 2, SYN, 0, 0, 0)
    with pytest.raises(FrameError, match="TCP option"):
        parse_tcp(header + options)


@pytest.mark.parametrize("offset", [0, 4 << 4, 6 << 4, 15 << 4])
def test_a_tcp_header_that_does_not_fit_is_refused(offset):
    with pytest.raises(FrameError, match="TCP header"):
        parse_tcp(struct.pack("!HHIIBBHHH", 1, 80, 0, 0, offset, ACK, 0, 0, 0))


def test_errors_of_frames_are_the_guests():
    assert issubclass(FrameError, GuestError)


@given(st.binary(max_size=300))
def test_the_checksum_is_that_of_rfc_1071(data):
    assert checksum(data) == slow_checksum(data)


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\xff\xff", b"\xff\xff\xff\xff", b"\xff\xfe\0\1"])
def test_the_checksum_knows_both_zeros(data):
    assert checksum(data) == slow_checksum(data)


segments = st.builds(
    Segment,
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF_FFFF),
    st.integers(0, 0xFFFF_FFFF),
    st.integers(0, 0xFF),
    st.integers(0, 0xFFFF),
    st.binary(max_size=100),
    st.none() | st.integers(0, 0xFFFF),
)


@given(segments)
def test_what_is_built_is_parsed_back_and_sums_to_zero(segment):
    raw = build_tcp(segment, HERE, THERE)
    assert checksum(HERE + THERE + b"\0\6" + len(raw).to_bytes(2, "big") + raw) == 0
    packet = build_ipv4(HERE, THERE, 6, raw)
    assert checksum(packet[:20]) == 0
    found = parse_tcp(parse_ipv4(packet).payload)
    assert {name: getattr(found, name) for name in Segment.__slots__} == {
        name: getattr(segment, name) for name in Segment.__slots__
    }


@given(st.binary(max_size=120))
def test_arbitrary_bytes_are_parsed_or_refused_by_name(data):
    for parse in (parse_ethernet, parse_arp_request, parse_ipv4, parse_tcp):
        try:
            parse(data)
        except FrameError:
            pass


@given(st.data())
def test_changed_packets_are_parsed_or_refused_by_name(data):
    frame = bytearray(build_ethernet(b"\1" * 6, b"\2" * 6, 0x800, SYN_FRAME[14:]))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        segment = parse_tcp(parse_ipv4(parse_ethernet(bytes(frame))[2]).payload)
    except FrameError:
        return
    assert len(segment.payload) <= len(frame)


def test_a_segment_prints_as_one_line():
    segment = Segment(80, 5, 1, 2, PSH | ACK, 3, b"abc")
    assert repr(segment) == "Segment(80>5 [P.] seq=1 ack=2 win=3 len=3 mss=None)"
