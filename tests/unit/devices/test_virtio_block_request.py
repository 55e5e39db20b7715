"""Block requests: any layout of descriptors, and whatever a guest may write into them."""

from itertools import pairwise
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.abi import virtio as v
from pyrovm.devices.virtio_block_request import parse_request
from pyrovm.errors import GuestError
from pyrovm.virtio.queue import Chain

OK, IOERR, UNSUPP = v.VIRTIO_BLK_S_OK, v.VIRTIO_BLK_S_IOERR, v.VIRTIO_BLK_S_UNSUPP
IN, OUT, FLUSH, GET_ID = (
    v.VIRTIO_BLK_T_IN,
    v.VIRTIO_BLK_T_OUT,
    v.VIRTIO_BLK_T_FLUSH,
    v.VIRTIO_BLK_T_GET_ID,
)
SECTORS = 100


def header(kind, sector=0):
    return pack("<IIQ", kind, 0xDEAD, sector)


def cut(data, places):
    """``data`` as views of its own memory, cut at ``places`` (repeated places: empty views)."""
    view = memoryview(bytearray(data))
    edges = [0, *sorted(min(p, len(view)) for p in places), len(view)]
    return [view[a:b] for a, b in pairwise(edges)]


def chain_of(readable, writable):
    chain = Chain(7)
    chain.readable, chain.writable = readable, writable
    chain.readable_size = sum(map(len, readable))
    chain.writable_size = sum(map(len, writable))
    return chain


def parse(readable, writable_size, *, sectors=SECTORS, read_only=False):
    chain = chain_of(cut(readable, []), cut(bytes(writable_size), []))
    return parse_request(chain, sectors, read_only)


def test_a_read_wants_its_writable_bytes_but_the_last():
    request = parse(header(IN, 3), 1024 + 1)
    assert (request.kind, request.offset, request.size, request.answer) == (IN, 1536, 1024, OK)
    assert sum(map(len, request.data)) == 1024
    assert len(request.status) == 1


def test_a_write_brings_the_readable_bytes_after_its_header():
    request = parse(header(OUT, 1) + b"x" * 512, 1)
    assert (request.kind, request.offset, request.size, request.answer) == (OUT, 512, 512, OK)
    assert b"".join(request.data) == b"x" * 512


@pytest.mark.parametrize(
    ("sector", "size", "answer"),
    [
        (SECTORS - 1, 512, OK),
        (SECTORS - 1, 1024, IOERR),
        (SECTORS, 0, OK),
        (SECTORS, 512, IOERR),
        (2**64 - 1, 512, IOERR),
        (2**55, 512, IOERR),
        (0, 511, IOERR),
        (0, 513, IOERR),
    ],
)
def test_reads_and_writes_are_whole_sectors_of_the_disk(sector, size, answer):
    assert parse(header(IN, sector), size + 1).answer == answer
    assert parse(header(OUT, sector) + bytes(size), 1).answer == answer


def test_a_read_only_disk_refuses_writes_only():
    assert parse(header(OUT) + bytes(512), 1, read_only=True).answer == IOERR
    assert parse(header(IN), 513, read_only=True).answer == OK


def test_the_id_needs_20_bytes():
    assert parse(header(GET_ID), 21).answer == OK
    assert parse(header(GET_ID), 20).answer == IOERR
    assert parse(header(GET_ID), 100).size == 20


def test_a_flush_needs_no_data():
    request = parse(header(FLUSH), 1)
    assert (request.kind, request.size, request.answer) == (FLUSH, 0, OK)


@pytest.mark.parametrize("kind", [2, 3, 5, 7, 11, 13, 0x8000_0000])
def test_other_types_are_unsupported(kind):
    assert parse(header(kind), 513).answer == UNSUPP


def test_a_read_that_brings_data_and_a_write_that_wants_some_are_refused():
    assert parse(header(IN) + bytes(512), 513).answer == IOERR
    assert parse(header(OUT) + bytes(512), 513).answer == IOERR


def test_a_header_that_is_too_short_is_refused():
    assert parse(header(IN)[:15], 513).answer == IOERR
    assert parse(b"", 1).answer == IOERR


def test_without_room_for_a_status_the_queue_is_broken():
    with pytest.raises(GuestError, match="no room for a status"):
        parse(header(IN), 0)


places = st.lists(st.integers(0, 3000), max_size=8)


@given(places, places, st.integers(0, 4))
def test_any_layout_means_the_same(read_cuts, write_cuts, sectors):
    payload = bytes(range(256)) * 2 * sectors
    chain = chain_of(cut(header(OUT, 5) + payload, read_cuts), cut(b"\xff", write_cuts))
    request = parse_request(chain, SECTORS, False)
    assert (request.offset, request.size, request.answer) == (2560, 512 * sectors, OK)
    assert b"".join(request.data) == payload

    writable = cut(bytes(512 * sectors) + b"\xff", write_cuts)
    request = parse_request(chain_of(cut(header(IN, 5), read_cuts), writable), SECTORS, False)
    assert (request.offset, request.size, request.answer) == (2560, 512 * sectors, OK)
    assert sum(map(len, request.data)) == 512 * sectors
    for view in request.data:
        view[:] = b"d" * len(view)
    request.status[0] = 0
    assert b"".join(writable) == b"d" * 512 * sectors + b"\0"


whole_sectors = st.integers(0, 2).map(lambda n: 512 * n)
hostile = st.binary(max_size=40) | st.builds(
    lambda kind, sector, size: header(kind, sector) + bytes(size),
    st.sampled_from([IN, OUT, FLUSH, GET_ID]) | st.integers(0, 2**32 - 1),
    st.integers(0, SECTORS + 1) | st.integers(0, 2**64 - 1),
    whole_sectors | st.integers(0, 1100),
)
sizes = whole_sectors.map(lambda n: n + 1) | st.integers(0, 1100)


@given(hostile, sizes, places, places, st.booleans())
def test_whatever_is_asked_for_stays_within_the_disk_and_the_chain(
    readable, writable_size, read_cuts, write_cuts, read_only
):
    chain = chain_of(cut(readable, read_cuts), cut(bytes(writable_size), write_cuts))
    try:
        request = parse_request(chain, SECTORS, read_only)
    except GuestError:
        assert writable_size == 0
        return
    assert len(request.status) == 1
    if request.answer == OK:
        assert sum(map(len, request.data)) == request.size
        assert request.offset + request.size <= SECTORS * 512
        assert not (read_only and request.kind == OUT)
