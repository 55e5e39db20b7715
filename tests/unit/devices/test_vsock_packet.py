from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.devices.vsock.packet import (
    HEADER,
    HEADER_SIZE,
    MAX_DATA,
    Header,
    data_room,
    parse_packet,
)
from pyrovm.errors import GuestError
from pyrovm.virtio.queue import Chain

u16, u32, u64 = (st.integers(0, (1 << bits) - 1) for bits in (16, 32, 64))
headers = st.builds(
    Header,
    src_cid=u64,
    dst_cid=u64,
    src_port=u32,
    dst_port=u32,
    size=u32,
    type=u16,
    op=u16,
    flags=u32,
    buf_alloc=u32,
    fwd_cnt=u32,
)


def chain_of(data, cuts=()):
    chain = Chain(0)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    chain.readable = [memoryview(data)[start:end] for start, end in pairwise(edges)]
    chain.readable_size = len(data)
    return chain


def header_of(size):
    return Header(3, 2, 1024, 80, size, 1, 5, 0, 1 << 18, 7)


def test_a_header_has_44_bytes():
    assert HEADER_SIZE == 44
    assert bytes(header_of(9)).hex() == (
        "0300000000000000020000000000000000040000500000000900000001000500000000000000040007000000"
    )


@given(headers)
def test_a_header_survives_a_round_trip(header):
    again = Header(*HEADER.unpack(bytes(header)))
    assert bytes(again) == bytes(header)


@given(st.binary(max_size=200), st.lists(st.integers(0, 300), max_size=6))
def test_a_packet_may_be_scattered_anyhow(data, cuts):
    header, views = parse_packet(chain_of(bytes(header_of(len(data))) + data, cuts))
    assert (header.src_port, header.dst_port, header.size) == (1024, 80, len(data))
    assert b"".join(views) == data


def test_bytes_behind_the_promised_ones_are_no_data():
    _, views = parse_packet(chain_of(bytes(header_of(3)) + b"abcdef"))
    assert b"".join(views) == b"abc"


@given(st.binary(max_size=43))
def test_a_cut_off_header_is_refused(data):
    with pytest.raises(GuestError, match="a header has 44"):
        parse_packet(chain_of(data))


@pytest.mark.parametrize(
    ("size", "have"), [(1, 0), (0xFFFF_FFFF, 10), (MAX_DATA + 1, MAX_DATA + 1)]
)
def test_more_data_than_there_is_or_than_64_kib_is_refused(size, have):
    with pytest.raises(GuestError, match=f"says it has {size} bytes"):
        parse_packet(chain_of(bytes(header_of(size)) + bytes(have)))


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=6))
def test_any_bytes_are_a_packet_or_refused(data, cuts):
    try:
        header, views = parse_packet(chain_of(data, cuts))
    except GuestError:
        return
    assert sum(map(len, views)) == header.size <= len(data) - HEADER_SIZE


def test_a_buffer_has_room_for_a_header_and_up_to_64_kib():
    chain = Chain(0)
    chain.writable_size = 44
    assert data_room(chain) == 0
    chain.writable_size = 1 << 20
    assert data_room(chain) == MAX_DATA
    chain.writable_size = 43
    with pytest.raises(GuestError, match="a buffer of 43 bytes"):
        data_room(chain)
