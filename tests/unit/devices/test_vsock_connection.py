import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.abi import virtio as v
from pyrovm.devices.vsock.connection import (
    BOTH,
    BUFFER_SIZE,
    EPOLLHUP,
    Connection,
    ConnectionBroken,
)
from pyrovm.devices.vsock.packet import HEADER, Header
from pyrovm.errors import HostError

IN, OUT = 1, 4
RCV, SEND = v.VIRTIO_VSOCK_SHUTDOWN_RCV, v.VIRTIO_VSOCK_SHUTDOWN_SEND
REQUEST, RESPONSE = v.VIRTIO_VSOCK_OP_REQUEST, v.VIRTIO_VSOCK_OP_RESPONSE
SHUTDOWN, RW = v.VIRTIO_VSOCK_OP_SHUTDOWN, v.VIRTIO_VSOCK_OP_RW
CREDIT_UPDATE = v.VIRTIO_VSOCK_OP_CREDIT_UPDATE
CREDIT_REQUEST = v.VIRTIO_VSOCK_OP_CREDIT_REQUEST
U32 = 0xFFFF_FFFF


class FakeStream:
    """Takes ``room`` bytes; None: nobody reads any more."""

    fd = 7

    def __init__(self, room=1 << 30):
        self.room = room
        self.taken = bytearray()
        self.calls = []

    def write(self, views):
        if self.room is None:
            return None
        data = b"".join(views)[: self.room]
        self.room -= len(data)
        self.taken += data
        return len(data)

    def established(self, host_port):
        self.calls.append(("established", host_port))

    def close_write(self):
        self.calls.append("close_write")

    def close_read(self):
        self.calls.append("close_read")


def guest_said(buf_alloc, fwd_cnt):
    return Header(42, 2, 5, 80, 0, 1, CREDIT_UPDATE, 0, buf_alloc, fwd_cnt)


def accepted(room=1 << 30, credit=1 << 18):
    connection = Connection(42, 5, 80, None)
    connection.take_credit(guest_said(credit, 0))
    connection.accept(FakeStream(room))
    assert connection.next_operation() == RESPONSE
    return connection


def write(connection, data):
    connection.write([memoryview(data)], len(data))


def fields(raw):
    return Header(*HEADER.unpack(raw))


# ---------------------------------------------------------------- handshakes


def test_what_the_guest_asked_for_is_open_when_accepted():
    connection = Connection(42, 5, 80, None)
    assert not connection.is_open
    connection.accept(FakeStream())
    assert connection.is_open
    header = fields(connection.header(connection.next_operation()))
    assert (header.src_cid, header.src_port, header.dst_cid, header.dst_port) == (2, 80, 42, 5)
    assert (header.op, header.type, header.buf_alloc) == (RESPONSE, 1, BUFFER_SIZE)


def test_what_the_host_asked_for_is_open_when_the_guest_responds():
    connection = Connection(42, 5, 1 << 30, FakeStream())
    connection.request()
    assert connection.next_operation() == REQUEST
    assert not connection.may_read
    connection.take_credit(guest_said(100, 0))
    connection.responded()
    assert connection.is_open
    assert connection.may_read
    assert connection.stream.calls == [("established", 1 << 30)]


def test_a_response_that_nobody_waits_for_breaks_the_connection():
    connection = accepted()
    with pytest.raises(ConnectionBroken):
        connection.responded()


def test_data_before_the_handshake_breaks_the_connection():
    connection = Connection(42, 5, 1 << 30, FakeStream())
    connection.request()
    with pytest.raises(ConnectionBroken):
        write(connection, b"x")


def test_a_shutdown_before_the_handshake_breaks_the_connection():
    connection = Connection(42, 5, 80, None)
    with pytest.raises(ConnectionBroken):
        connection.shut_down(SEND)


# -------------------------------------------------------------- towards the host


def test_data_is_written_at_once_when_there_is_room():
    connection = accepted()
    write(connection, b"hello")
    assert connection.stream.taken == b"hello"
    assert not connection.buffer
    assert fields(connection.header(RW)).fwd_cnt == 5


def test_what_is_not_taken_is_held_and_not_acknowledged():
    connection = accepted(room=2)
    connection.write([memoryview(b"ab"), memoryview(b"cd"), memoryview(b"ef")], 6)
    write(connection, b"gh")
    assert connection.stream.taken == b"ab"
    assert connection.wanted_events() & OUT
    assert fields(connection.header(RW)).fwd_cnt == 2
    connection.stream.room = 3
    connection.flush()
    assert connection.stream.taken == b"abcde"
    connection.stream.room = 100
    connection.flush()
    assert connection.stream.taken == b"abcdefgh"
    assert not connection.wanted_events() & OUT
    assert fields(connection.header(RW)).fwd_cnt == 8


def test_64_kib_are_held_and_not_a_byte_more():
    connection = accepted(room=0)
    write(connection, bytes(BUFFER_SIZE))
    with pytest.raises(ConnectionBroken, match="1 bytes sent without credit"):
        write(connection, b"x")
    assert len(connection.buffer) == BUFFER_SIZE


def test_the_guest_is_told_of_credit_when_it_has_4_kib_left():
    connection = accepted()
    write(connection, bytes(60 * 1024 - 1))
    assert connection.next_operation() is None
    write(connection, b"x")
    assert connection.next_operation() == CREDIT_UPDATE


def test_any_packet_tells_of_the_credit():
    connection = accepted()
    write(connection, bytes(64 * 1024))
    connection.header(RW)
    assert connection.next_operation() is None


def test_data_for_a_program_that_reads_no_more_is_dropped_and_the_guest_told():
    connection = accepted(room=None)
    write(connection, b"hello")
    assert not connection.buffer
    assert connection.next_operation() == SHUTDOWN
    assert fields(connection.header(SHUTDOWN)).flags == RCV
    write(connection, b"still on its way")
    assert connection.next_operation() is None
    assert connection.wanted_events() == IN


def test_what_was_held_is_dropped_when_the_program_reads_no_more():
    connection = accepted(room=0)
    write(connection, b"hello")
    connection.stream.room = None
    connection.flush()
    assert not connection.buffer
    assert connection.host_shutdown == RCV


def test_an_empty_write_asks_nothing_of_the_socket():
    connection = accepted(room=None)
    connection.write([], 0)
    assert connection.next_operation() is None


# ------------------------------------------------------------- towards the guest


@given(st.integers(0, U32), st.integers(0, U32), st.integers(0, U32))
def test_credit_is_never_negative_and_never_more_than_the_guest_holds(alloc, forwarded, sent):
    connection = accepted()
    connection.take_credit(guest_said(alloc, forwarded))
    connection.sent(sent)
    assert 0 <= connection.credit <= alloc


def test_credit_counts_wrap_at_32_bits():
    connection = accepted(credit=1000)
    connection.sent(U32 - 99)
    connection.take_credit(guest_said(1000, U32 - 99))
    assert connection.credit == 1000
    connection.sent(200)
    assert connection.credit == 800
    connection.take_credit(guest_said(1000, 100))
    assert connection.credit == 1000


def test_without_credit_nothing_is_read_and_credit_is_asked_for():
    connection = accepted(credit=10)
    assert connection.wanted_events() == IN
    connection.sent(10)
    assert connection.next_operation() == CREDIT_REQUEST
    connection.is_readable = True
    assert not connection.has_work
    assert connection.wanted_events() == 0
    connection.take_credit(guest_said(10, 5))
    assert connection.has_work
    assert connection.wanted_events() == IN


def test_a_connection_that_waits_for_its_turn_is_not_watched_for_more():
    connection = accepted()
    connection.is_queued = True
    assert connection.wanted_events() == 0


# ----------------------------------------------------------------------- closing


def test_the_end_of_what_the_program_sends_is_told_and_the_rest_goes_on():
    connection = accepted()
    connection.hang_up(SEND)
    assert connection.next_operation() == SHUTDOWN
    assert fields(connection.header(SHUTDOWN)).flags == SEND
    assert not connection.is_closing
    write(connection, b"an answer")
    assert connection.stream.taken == b"an answer"
    assert connection.wanted_events() == EPOLLHUP


def test_a_program_that_hung_up_is_gone_for_the_guest():
    connection = accepted()
    connection.hang_up(SEND)
    connection.next_operation()
    connection.hang_up(BOTH)
    assert connection.next_operation() == SHUTDOWN
    assert fields(connection.header(SHUTDOWN)).flags == BOTH
    assert connection.is_closing
    assert connection.wanted_events() == 0
    connection.hang_up(RCV)
    assert connection.next_operation() is None


def test_when_the_guest_sends_no_more_the_write_side_closes_after_what_is_held():
    connection = accepted(room=0)
    write(connection, b"last words")
    connection.shut_down(SEND)
    assert connection.stream.calls == []
    connection.stream.room = 100
    connection.flush()
    connection.finish_writing()
    assert connection.stream.taken == b"last words"
    assert connection.stream.calls == ["close_write"]
    assert connection.may_read
    with pytest.raises(ConnectionBroken):
        write(connection, b"more")


def test_when_the_guest_receives_no_more_the_read_side_closes():
    connection = accepted()
    connection.shut_down(RCV)
    assert connection.stream.calls == ["close_read"]
    assert not connection.may_read
    write(connection, b"still")
    assert connection.stream.taken == b"still"


def test_shutdown_flags_add_up_and_the_connection_is_finished_when_flushed():
    connection = accepted(room=0)
    write(connection, b"x")
    connection.shut_down(SEND)
    connection.shut_down(RCV | 0x80)
    assert connection.is_closing
    assert not connection.is_finished
    connection.stream.room = 1
    connection.flush()
    assert connection.is_finished


def test_operations_have_their_order():
    connection = accepted()
    connection.pending.update({CREDIT_UPDATE, SHUTDOWN, CREDIT_REQUEST, RESPONSE})
    found = [connection.next_operation() for _ in range(5)]
    assert found == [RESPONSE, SHUTDOWN, CREDIT_REQUEST, CREDIT_UPDATE, None]


# ------------------------------------------------------------------- properties

steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 3000)),
        st.tuples(st.just("room"), st.integers(0, 5000)),
        st.tuples(st.just("flush"), st.just(0)),
        st.tuples(st.just("deaf"), st.just(0)),
        st.tuples(st.just("shut"), st.integers(0, 3)),
        st.tuples(st.just("hang"), st.integers(0, 3)),
        st.tuples(st.just("fail"), st.just(0)),
    ),
    max_size=40,
)


class FailingStream(FakeStream):
    fails = False

    def write(self, views):
        if self.fails:
            raise HostError("broken")
        return super().write(views)


@given(steps)
def test_bytes_arrive_in_order_and_credit_counts_just_those(steps):
    connection = Connection(42, 5, 80, None)
    stream = FailingStream(room=1000)
    connection.take_credit(guest_said(1 << 18, 0))
    connection.accept(stream)
    sent = bytearray()
    for what, number in steps:
        try:
            if what == "write":
                data = bytes((len(sent) + i) & 0xFF for i in range(number))
                write(connection, data)
                sent += data
            elif what == "room" and stream.room is not None:
                stream.room = number
            elif what == "flush":
                connection.flush()
            elif what == "deaf":
                stream.room = None
            elif what == "shut":
                connection.shut_down(number)
            elif what == "hang":
                connection.hang_up(number)
            elif what == "fail":
                stream.fails = True
        except (ConnectionBroken, HostError):
            break
        assert sent.startswith(stream.taken)
        assert len(connection.buffer) <= BUFFER_SIZE
        if not connection.host_shutdown & RCV:
            assert bytes(stream.taken + connection.buffer) == bytes(sent)
            assert fields(connection.header(RW)).fwd_cnt == len(stream.taken)
