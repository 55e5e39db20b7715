"""TCP as the service speaks it: handshake, loss, reordering, windows, resets, wrap-around."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrovm.mmds.frames import ACK, FIN, PSH, RST, SYN, Segment
from pyrovm.mmds.listener import EVICTABLE_MS, MAX_CONNECTIONS, MAX_PENDING_RESETS
from pyrovm.mmds.tcp import (
    GIVE_UP_MS,
    RECEIVE_BUFFER,
    RTO_DOUBLINGS,
    RTO_MS,
    SEQ_MASK,
    Connection,
    distance,
    reset_for,
)
from tests.unit.mmds.guest import Client, Guest, get, mmds_config, split_response

REQUEST = get("/latest/meta-data/ami-id")
BODY = "ami-12345678"
LARGE = {"large": "x" * 40_000}


def body(response):
    return split_response(response)[2]


def test_a_request_is_answered():
    client = Client(Guest())
    assert body(client.request(REQUEST)) == BODY
    assert client.peer_window == RECEIVE_BUFFER
    assert client.log[-1].flags == PSH | ACK


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_a_request_may_come_in_pieces(size):
    client = Client(Guest())
    assert body(client.request(REQUEST, size)) == BODY


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, len(REQUEST) - 1), max_size=8), st.integers(0, SEQ_MASK))
def test_every_split_of_a_request_gives_the_same_response(cuts, seq):
    guest = Guest()
    client = Client(guest, seq=seq)
    whole = guest_response(REQUEST)
    at = 0
    for cut in [*sorted(cuts), len(REQUEST)]:
        client.send(REQUEST[at:cut])
        at = cut
    assert client.exchange() == whole


def guest_response(request):
    return Client(Guest()).request(request)


def test_requests_may_follow_each_other_on_a_connection():
    client = Client(Guest())
    for _ in range(20):
        assert body(client.request(REQUEST)) == BODY


def test_pipelined_requests_are_answered_one_after_the_other():
    client = Client(Guest())
    client.send(REQUEST * 3)
    one = guest_response(REQUEST)
    client.poll()
    assert client.data == one, "the next answer waits until this one is acknowledged"
    client.transmit(ACK)
    assert client.exchange() == one * 3


def test_received_data_narrows_the_window_and_answered_data_widens_it():
    client = Client(Guest())
    client.send(REQUEST[:20])
    client.poll()
    assert client.peer_window == RECEIVE_BUFFER - 20
    client.request(REQUEST[20:])
    assert client.peer_window == RECEIVE_BUFFER


def test_a_request_as_large_as_the_buffer_is_answered():
    client = Client(Guest())
    padding = RECEIVE_BUFFER - len(get("/latest/meta-data/ami-id", "X: "))
    request = get("/latest/meta-data/ami-id", "X: " + "y" * padding)
    assert len(request) == RECEIVE_BUFFER
    assert body(client.request(request)) == BODY


def test_a_request_that_fills_the_buffer_without_an_end_is_reset():
    client = Client(Guest())
    client.send(b"G" * RECEIVE_BUFFER)
    client.poll()
    assert client.reset
    assert client.guest.counters.connections_destroyed == 1


def test_what_exceeds_the_window_is_not_taken():
    client = Client(Guest())
    client.send(REQUEST[:-1])
    client.poll()
    # A segment of 60 kB, as segmentation offload makes them.
    client.transmit(ACK, b"x" * 60_000)
    client.poll()
    assert client.reset, "the buffer is full without a request in it"


def test_a_large_answer_comes_in_segments_of_the_guests_size():
    guest = Guest(value=LARGE)
    client = Client(guest, mss=1000)
    assert body(client.request(get("/large"))) == LARGE["large"]
    sizes = [len(s.payload) for s in client.log if s.payload]
    assert max(sizes) == 1000
    assert sizes.count(1000) >= 40


@pytest.mark.parametrize(
    ("mss", "size"), [(None, 536), (0, 100), (1, 100), (536, 536), (1460, 1460), (65_535, 1460)]
)
def test_the_segment_size_is_bounded_both_ways(mss, size):
    client = Client(Guest(value=LARGE), mss=mss)
    client.request(get("/large"))
    assert max(len(s.payload) for s in client.log) == size


def test_no_more_is_sent_than_the_window_allows():
    client = Client(Guest(value=LARGE), window=3000)
    client.send(get("/large"))
    total = 0
    while True:
        segments = client.poll()
        if not segments:
            break
        size = sum(len(s.payload) for s in segments)
        assert size <= 3000
        total += size
        client.transmit(ACK)
    assert body(client.data) == LARGE["large"]


def test_a_closed_window_is_probed_and_an_opened_one_is_used():
    guest = Guest(value=LARGE)
    client = Client(guest, window=0)
    client.send(get("/large"))
    (only,) = client.poll()
    assert only.payload == b""
    for _ in range(3):
        guest.clock.now_ms += round(guest.stack.next_timeout() * 1000)
        (probe,) = guest.receive()
        assert len(probe.payload) == 1
        client.transmit(ACK)  # still closed, nothing kept
    client.window = 65_535
    client.transmit(ACK)
    assert body(client.exchange()) == LARGE["large"]


def test_a_probe_that_was_kept_is_not_repeated():
    guest = Guest(value=LARGE)
    client = Client(guest, window=0)
    client.send(get("/large"))
    client.poll()
    guest.clock.now_ms += RTO_MS
    client.poll()
    assert len(client.data) == 1
    client.window = 65_535
    client.transmit(ACK)
    assert body(client.exchange()) == LARGE["large"]


def test_what_is_lost_is_sent_again_with_growing_patience():
    guest = Guest()
    client = Client(guest)
    client.send(REQUEST)
    (first,) = guest.receive()
    waits = []
    for _ in range(7):
        waits.append(round(guest.stack.next_timeout() * 1000))
        guest.clock.now_ms += waits[-1] - 1
        assert not guest.stack.has_frames
        guest.clock.now_ms += 1
        (again,) = guest.receive()
        assert (again.seq, again.payload, again.flags) == (first.seq, first.payload, first.flags)
    longest = RTO_MS << RTO_DOUBLINGS
    assert waits == [min(RTO_MS << n, longest) for n in range(7)]
    client.expected = (first.seq + first.length) & SEQ_MASK
    client.transmit(ACK)
    assert guest.stack.next_timeout() is None
    assert body(client.request(REQUEST)) == BODY


def test_after_a_loss_everything_unacknowledged_is_sent_again():
    guest = Guest(value=LARGE)
    client = Client(guest, window=5000)
    client.send(get("/large"))
    lost = guest.receive()
    assert len(lost) == 4
    guest.clock.now_ms += RTO_MS
    assert body(client.exchange()) == LARGE["large"]


def test_a_partial_acknowledgement_is_not_sent_again():
    guest = Guest(value=LARGE)
    client = Client(guest, window=5000)
    client.send(get("/large"))
    segments = guest.receive()
    half = segments[1].seq + len(segments[1].payload)
    client.data = segments[0].payload + segments[1].payload
    client.expected = half & SEQ_MASK
    client.transmit(ACK)
    guest.clock.now_ms += RTO_MS
    assert guest.receive()[0].seq == client.expected
    guest.clock.now_ms += RTO_MS * 2
    assert body(client.exchange()) == LARGE["large"]


def test_a_silent_guest_is_given_up():
    guest = Guest()
    client = Client(guest)
    client.send(REQUEST)
    started = guest.clock.now_ms
    while guest.stack.next_timeout() is not None:
        guest.clock.now_ms += round(guest.stack.next_timeout() * 1000)
        client.poll()
    assert client.reset
    waited = guest.clock.now_ms - started
    assert GIVE_UP_MS <= waited <= GIVE_UP_MS + (RTO_MS << RTO_DOUBLINGS)
    assert guest.counters.connections_destroyed == 1


def test_a_lost_handshake_is_repeated():
    guest = Guest()
    client = Client(guest, connect=False)
    client.transmit(SYN, mss=1460)
    (first,) = guest.receive()
    client.transmit(SYN, mss=1460)  # the guest has not heard it
    (second,) = guest.receive()
    guest.clock.now_ms += round(guest.stack.next_timeout() * 1000)
    (third,) = guest.receive()
    assert {(s.seq, s.ack, s.flags) for s in (first, second, third)} == {
        (first.seq, 1001, SYN | ACK)
    }
    client.seq, client.expected = 1001, (first.seq + 1) & SEQ_MASK
    assert body(client.request(REQUEST)) == BODY
    assert guest.counters.connections_created == 1


def test_the_acknowledgement_of_the_handshake_may_carry_the_request():
    guest = Guest()
    client = Client(guest, connect=False)
    client.transmit(SYN)
    (answer,) = guest.receive()
    client.seq, client.expected = 1001, (answer.seq + 1) & SEQ_MASK
    client.transmit(ACK | PSH, REQUEST)
    client.seq += len(REQUEST)
    assert body(client.exchange()) == BODY


def test_a_wrong_acknowledgement_of_the_handshake_is_reset():
    guest = Guest()
    client = Client(guest, connect=False)
    client.transmit(SYN)
    (answer,) = guest.receive()
    client.transmit(ACK, REQUEST, seq=1001, ack=answer.seq + 2)
    (reset,) = guest.receive()
    assert reset.flags & RST
    assert reset.seq == (answer.seq + 2) & SEQ_MASK
    assert guest.counters.connections_destroyed == 1


def test_data_before_the_handshake_is_done_is_not_taken():
    guest = Guest()
    client = Client(guest, connect=False)
    client.transmit(SYN)
    (answer,) = guest.receive()
    client.transmit(ACK, REQUEST, seq=1001, ack=answer.seq)
    assert guest.receive() == []


def test_data_out_of_order_is_dropped_and_asked_for():
    client = Client(Guest())
    client.transmit(ACK, REQUEST[10:], seq=client.seq + 10)
    client.poll()
    assert client.acked == client.seq, "a duplicate acknowledgement"
    client.transmit(ACK, REQUEST[:10])
    client.poll()
    assert client.acked == client.seq + 10
    client.transmit(ACK, REQUEST[10:], seq=client.seq + 10)
    client.seq += len(REQUEST)
    assert body(client.exchange()) == BODY


def test_repeated_data_is_taken_once():
    client = Client(Guest())
    client.transmit(ACK, REQUEST[:10])
    client.transmit(ACK, REQUEST[:10])
    client.transmit(ACK, REQUEST[:15])
    client.transmit(ACK, REQUEST[5:], seq=client.seq + 5)
    client.seq += len(REQUEST)
    assert body(client.exchange()) == BODY
    assert client.acked == client.seq
    before = len(client.data)
    client.transmit(ACK, REQUEST, seq=client.seq - len(REQUEST))
    assert [s.payload for s in client.poll()] == [b""], "acknowledged, not answered again"
    assert len(client.data) == before


@pytest.mark.parametrize("seq", [SEQ_MASK, SEQ_MASK - 1, SEQ_MASK - 20, 0x7FFF_FFFF, 0])
def test_the_guests_sequence_numbers_wrap(seq):
    client = Client(Guest(), seq=seq)
    assert body(client.request(REQUEST, 3)) == BODY
    client.fin()
    assert client.exchange()
    assert client.fin_received


@pytest.mark.parametrize("before", [0, 1, 2, 1000, 39_000])
def test_our_sequence_numbers_wrap(before):
    guest = Guest(value=LARGE)
    # The initial number is the clock's, in steps of 4 us.
    guest.clock.now_ms = (1 << 32) // 250 - before // 250
    client = Client(guest)
    assert body(client.request(get("/large"))) == LARGE["large"]
    assert body(client.request(get("/large"))) == LARGE["large"]
    assert client.expected < client.log[0].seq


def test_the_service_closes_after_the_guest():
    client = Client(Guest())
    client.request(REQUEST)
    client.fin()
    client.poll()
    assert client.fin_received
    assert client.acked == client.seq
    assert client.guest.counters.connections_destroyed == 0
    client.transmit(ACK)
    assert client.guest.counters.connections_destroyed == 1
    assert client.guest.stack.next_timeout() is None


def test_a_guest_that_has_finished_sending_still_gets_its_answer():
    client = Client(Guest(value=LARGE))
    request = get("/large")
    client.transmit(ACK | FIN, request)
    client.seq += len(request) + 1
    assert body(client.exchange()) == LARGE["large"]
    assert client.fin_received
    assert client.guest.counters.connections_destroyed == 1


def test_a_lost_fin_is_sent_again():
    guest = Guest()
    client = Client(guest)
    client.fin()
    assert [s.flags for s in guest.receive()] == [FIN | ACK]
    guest.clock.now_ms += RTO_MS
    assert [s.flags for s in client.poll()] == [FIN | ACK]
    client.transmit(ACK)
    assert guest.counters.connections_destroyed == 1


def test_a_repeated_fin_is_acknowledged_again():
    guest = Guest()
    client = Client(guest)
    client.fin()
    client.poll()
    client.transmit(FIN | ACK, seq=client.seq - 1, ack=client.expected - 1)
    assert [s.ack for s in client.poll()] == [client.seq]


def test_an_unfinished_request_is_dropped_when_the_guest_closes():
    client = Client(Guest())
    client.send(REQUEST[:-1])
    client.fin()
    client.exchange()
    assert client.fin_received
    assert client.data == b""


def test_a_reset_ends_the_connection_without_an_answer():
    guest = Guest()
    client = Client(guest)
    client.transmit(RST)
    assert guest.receive() == []
    assert guest.counters.connections_destroyed == 1
    client.transmit(ACK, REQUEST)
    client.poll()
    assert client.reset, "the connection is forgotten"


@pytest.mark.parametrize(("offset", "answers"), [(1, 1), (2499, 1), (2500, 0), (-1, 0)])
def test_a_reset_with_another_number_is_not_believed(offset, answers):
    guest = Guest()
    client = Client(guest)
    client.transmit(RST, seq=client.seq + offset)
    assert [s.flags for s in guest.receive()] == [ACK] * answers
    assert body(client.request(REQUEST)) == BODY


def test_a_syn_on_an_open_connection_is_challenged():
    guest = Guest()
    client = Client(guest)
    client.transmit(SYN, seq=77_777)
    (challenge,) = guest.receive()
    assert (challenge.flags, challenge.ack) == (ACK, client.seq)
    # A guest that has rebooted answers so, and then its port is free.
    client.transmit(RST, seq=challenge.ack)
    assert guest.counters.connections_destroyed == 1


def test_an_acknowledgement_of_what_was_never_sent_is_answered_with_where_we_stand():
    guest = Guest()
    client = Client(guest)
    client.transmit(ACK, ack=client.expected + 1000)
    (answer,) = guest.receive()
    assert (answer.flags, answer.seq) == (ACK, client.expected)
    assert body(client.request(REQUEST)) == BODY


def test_a_keep_alive_probe_is_answered_and_a_plain_acknowledgement_is_not():
    guest = Guest()
    client = Client(guest)
    client.transmit(ACK)
    assert guest.receive() == []
    client.transmit(ACK, seq=client.seq - 1)
    assert [s.flags for s in guest.receive()] == [ACK]


@pytest.mark.parametrize(
    ("flags", "seq", "ack", "expected"),
    [
        (ACK, 5, 77, (77, 0, RST)),
        (SYN | ACK, 5, 77, (77, 0, RST)),
        (SYN | FIN, 5, 0, (0, 7, RST | ACK)),
        (FIN, SEQ_MASK, 0, (0, 0, RST | ACK)),
        (0, 5, 77, (0, 5, RST | ACK)),
    ],
)
def test_a_segment_of_no_connection_is_reset(flags, seq, ack, expected):
    guest = Guest()
    Client(guest, connect=False).transmit(flags, seq=seq, ack=ack)
    (reset,) = guest.receive()
    assert (reset.seq, reset.ack, reset.flags) == expected
    assert reset.destination_port == 40_000


def test_a_reset_is_never_answered_with_a_reset():
    assert reset_for(Segment(1, 2, 3, 4, RST, 0)) is None
    assert reset_for(Segment(1, 2, 3, 4, RST | ACK, 0)) is None


def test_only_port_80_listens():
    guest = Guest()
    guest.transmit(Segment(40_000, 81, 5, 0, SYN, 1000))
    (reset,) = guest.receive()
    assert (reset.source_port, reset.flags, reset.ack) == (81, RST | ACK, 6)
    assert guest.counters.connections_created == 0


def test_the_31st_connection_is_refused_and_the_others_work_on():
    guest = Guest()
    clients = [Client(guest, port) for port in range(1000, 1000 + MAX_CONNECTIONS)]
    late = Client(guest, 2000, connect=False)
    late.transmit(SYN)
    late.poll()
    assert late.reset
    assert all(body(client.request(REQUEST)) == BODY for client in clients)
    clients[7].transmit(RST)
    late.connect()
    assert body(late.request(REQUEST)) == BODY


def test_a_connection_that_has_been_silent_makes_room():
    guest = Guest()
    clients = [Client(guest, port) for port in range(1000, 1000 + MAX_CONNECTIONS)]
    guest.clock.now_ms += EVICTABLE_MS - 1
    for client in clients[:3] + clients[4:]:
        client.transmit(ACK)
    guest.clock.now_ms += 1
    late = Client(guest, 2000)
    assert guest.counters.connections_created == MAX_CONNECTIONS + 1
    assert guest.counters.connections_destroyed == 1
    assert body(late.request(REQUEST)) == BODY
    assert body(clients[2].request(REQUEST)) == BODY
    clients[3].transmit(ACK, REQUEST)
    clients[3].poll()
    assert clients[3].reset


def test_connections_take_turns():
    guest = Guest(value=LARGE)
    clients = [Client(guest, port) for port in (1, 2, 3)]
    for client in clients:
        client.send(get("/large"))
    order = [s.destination_port for s in guest.receive()]
    assert order[:9] == [1, 2, 3] * 3


def test_connections_of_different_addresses_do_not_mix():
    guest = Guest()
    client = Client(guest)
    other = Segment(client.port, 80, client.seq, client.expected, ACK, 1000, REQUEST)
    guest.transmit(other, ip=bytes((172, 16, 0, 3)), mac=b"\2" * 6)
    frame = guest.stack.next_frame()
    assert frame[:6] == b"\2" * 6
    assert frame[30:34] == bytes((172, 16, 0, 3))
    assert frame[47] == RST
    assert body(client.request(REQUEST)) == BODY


def test_no_more_than_100_resets_wait():
    guest = Guest()
    for port in range(1, 151):
        guest.transmit(Segment(port, 81, 5, 0, SYN, 1000))
    assert len(guest.receive()) == MAX_PENDING_RESETS
    assert guest.counters.tx_errors == 50


def test_the_clock_makes_the_initial_sequence_numbers():
    guest = Guest(mmds_config("V2"))
    first = Client(guest, 1)
    guest.clock.now_ms += 10
    second = Client(guest, 2)
    assert distance(second.expected, first.expected) == 2500


@given(st.integers(0, SEQ_MASK), st.integers(-0x8000_0000, 0x7FFF_FFFF))
def test_distance_is_signed_and_wraps(base, difference):
    assert distance((base + difference) & SEQ_MASK, base) == difference


FLAGS = st.sampled_from([ACK, ACK | PSH, ACK | FIN, SYN, SYN | ACK, RST, RST | ACK, FIN, 0])
NEAR = st.sampled_from([-2, -1, 0, 0, 0, 0, 1, 2, 100, 2500, 70_000]) | st.integers(0, SEQ_MASK)
STEP = st.tuples(
    st.sampled_from(["segment", "segment", "time", "poll", "send", "close", "abort"]),
    FLAGS,
    NEAR,
    NEAR,
    st.integers(0, 65_535) | st.just(0),
    st.integers(0, 3000),
)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, SEQ_MASK), st.integers(0, SEQ_MASK), st.lists(STEP, max_size=30))
def test_a_connection_keeps_its_bounds_whatever_comes(irs, iss, steps):
    now_ms, rcv_nxt, snd_max = 0, (irs + 1) & SEQ_MASK, iss
    connection = Connection(Segment(9, 80, irs, 0, SYN, 1000, mss=1460), iss, now_ms)
    closing = False
    for kind, flags, seq, ack, window, size in steps:
        if kind == "time":
            now_ms += size
        elif kind == "send" and not connection.is_sending and not closing:
            connection.send(b"a" * size, now_ms)
        elif kind == "close":
            connection.close()
            closing = True
        elif kind == "abort" and size < 100:
            connection.abort()
        elif kind == "segment":
            before = len(connection.received)
            connection.receive(
                Segment(
                    9,
                    80,
                    (rcv_nxt + seq) & SEQ_MASK,
                    (snd_max + ack) & SEQ_MASK,
                    flags,
                    window,
                    b"r" * size,
                ),
                now_ms,
            )
            rcv_nxt += len(connection.received) - before
        assert len(connection.received) <= RECEIVE_BUFFER
        for _ in range(60):
            promised = connection.has_segments(now_ms)
            segment = connection.next_segment(now_ms)
            assert promised == (segment is not None)
            if segment is None:
                break
            assert len(segment.payload) <= 1460
            assert segment.window == RECEIVE_BUFFER - len(connection.received)
            if distance((segment.seq + segment.length) & SEQ_MASK, snd_max) > 0:
                snd_max = (segment.seq + segment.length) & SEQ_MASK
            rcv_nxt = segment.ack if segment.flags & ACK else rcv_nxt
        else:
            raise AssertionError("one moment brings a bounded number of segments")
        if connection.is_done:
            assert connection.deadline_ms() is None
            assert connection.next_segment(now_ms) is None
        elif snd_max == iss or connection.is_sending:
            assert connection.deadline_ms() is not None, "what may be lost has a time-out"
