"""The socket device between a guest on the mock driver and programs on real Unix sockets."""

import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyrovm.backends.vsock_unix import UnixVsockHost
from pyrovm.devices.virtio_vsock import VirtioVsock
from pyrovm.devices.vsock.muxer import FIRST_HOST_PORT, LAST_HOST_PORT, MAX_CONNECTIONS
from tests.unit.devices.vsock_guest import (
    BUF_ALLOC,
    CID,
    CREDIT_REQUEST,
    CREDIT_UPDATE,
    EVENT,
    RCV,
    REQUEST,
    RESPONSE,
    RST,
    RW,
    RX,
    SEND,
    SHUTDOWN,
    TX,
    Guest,
)

PORT = 52
BOTH = RCV | SEND


@pytest.fixture
def device(tmp_path):
    made = VirtioVsock(CID, UnixVsockHost(str(tmp_path / "v.sock")))
    yield made
    if made.active is not None:
        made.deactivate()
    made.close()


@pytest.fixture
def guest(device):
    return Guest(device)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "v.sock")


@pytest.fixture
def sockets():
    made = []
    yield made
    for one in made:
        one.close()


@pytest.fixture
def listen(path, sockets):
    def listen(port, backlog=128):
        listener = socket.socket(socket.AF_UNIX)
        sockets.append(listener)
        listener.bind(f"{path}_{port}")
        listener.listen(backlog)
        listener.settimeout(1)
        return listener

    return listen


@pytest.fixture
def client(path, sockets):
    """A program that connects to the guest; it has sent its line."""

    def client(line=b"CONNECT 52\n"):
        made = socket.socket(socket.AF_UNIX)
        sockets.append(made)
        made.connect(path)
        made.setblocking(False)
        if line:
            made.sendall(line)
        return made

    return client


def accept(listener, sockets):
    found, _ = listener.accept()
    sockets.append(found)
    found.setblocking(False)
    return found


def received(sock):
    """What can be read now; None at the end."""
    found = b""
    while True:
        try:
            data = sock.recv(1 << 20)
        except BlockingIOError:
            return found
        if not data:
            return found or None
        found += data


@pytest.fixture
def guest_made(guest, listen, sockets):
    """A connection that the guest asked for: (guest, the host's socket, ports)."""
    listener = listen(PORT)
    guest.send(REQUEST, 1000, PORT)
    packets = guest.receive_all()
    assert [p.op for p in packets] == [RESPONSE]
    return guest, accept(listener, sockets), (1000, PORT)


@pytest.fixture
def host_made(guest, client):
    """A connection that a program on the host asked for."""
    sock = client()
    (request,) = guest.receive_all()
    assert request.op == REQUEST
    guest.send(RESPONSE, PORT, request.header.src_port)
    assert received(sock) == b"OK %d\n" % request.header.src_port
    return guest, sock, (PORT, request.header.src_port)


@pytest.fixture(params=["guest_made", "host_made"])
def pair(request):
    return request.getfixturevalue(request.param)


def data_of(packets):
    return b"".join(p.data for p in packets if p.op == RW)


# ------------------------------------------------------------------- identity


def test_the_device_offers_in_order_and_event_idx_and_tells_the_guest_its_cid(guest):
    assert guest.device.features == 1 << 32 | 1 << 35 | 1 << 29
    assert guest.driver.config(8) == CID.to_bytes(8, "little")
    assert guest.driver.status == 15


# ----------------------------------------------------- guest-initiated connections


def test_a_guest_reaches_the_program_at_path_and_port(pair):
    guest, sock, ports = pair
    guest.send(RW, *ports, b"hello")
    assert received(sock) == b"hello"
    sock.sendall(b"world")
    (packet,) = guest.receive_all()
    assert (packet.op, packet.data) == (RW, b"world")
    assert packet.ports == ports[::-1]
    assert packet.header.fwd_cnt == 5
    assert guest.device.counters.tx_bytes_count == 5
    assert guest.device.counters.rx_bytes_count == 5
    assert guest.device.counters.conns_added == 1


def test_where_nobody_listens_the_guest_gets_a_reset(guest):
    guest.send(REQUEST, 1000, 99)
    (packet,) = guest.receive_all()
    assert packet.op == RST
    assert packet.ports == (99, 1000)
    assert guest.device._muxer.connections == {}


def test_a_busy_program_is_asked_again_until_it_has_room(guest, listen, sockets):
    listener = listen(PORT, backlog=0)
    guest.send(REQUEST, 1000, PORT)
    guest.send(REQUEST, 1001, PORT)
    guest.send(REQUEST, 1002, PORT)
    assert [p.op for p in guest.receive_all()] == [RESPONSE]
    accept(listener, sockets)
    guest.loop.advance(0.01)
    assert [p.op for p in guest.receive_all()] == [RESPONSE]
    accept(listener, sockets)
    guest.loop.advance(0.01)
    assert [p.op for p in guest.receive_all()] == [RESPONSE]


def test_a_program_that_stays_busy_is_given_up_after_two_seconds(guest, listen):
    listen(PORT, backlog=0)
    guest.send(REQUEST, 1000, PORT)
    guest.send(REQUEST, 1001, PORT)
    guest.receive_all()
    for _ in range(7):
        guest.loop.advance(0.25)
    assert guest.receive_all() == []
    guest.loop.advance(0.25)
    (packet,) = guest.receive_all()
    assert (packet.op, packet.header.dst_port) == (RST, 1001)


# ------------------------------------------------------ host-initiated connections


@pytest.mark.parametrize(
    "line", [b"CONNECT 52\n", b"connect 52\n", b"CoNnEcT 00000000000000000000052\n"]
)
def test_a_program_asks_for_a_port_and_is_told_the_hosts(guest, client, line):
    sock = client(line)
    (packet,) = guest.receive_all()
    assert packet.op == REQUEST
    assert packet.ports == (FIRST_HOST_PORT, PORT)
    assert received(sock) == b""
    guest.send(RESPONSE, PORT, FIRST_HOST_PORT)
    assert received(sock) == b"OK 1073741824\n"


@pytest.mark.parametrize(
    "line",
    [
        b"CONNECT\n",
        b"CONNECT x\n",
        b"CONNECT -1\n",
        b"CONNECT 4294967296\n",
        b"CONNECTED 52\n",
        b"52\n",
        b"\n",
        b"CONNECT 52 53\n",
        b"CONNECT 000000000000000000000052\n",  # 33 bytes
        b"x" * 100,
    ],
)
def test_another_line_is_answered_by_closing_the_socket(guest, client, line):
    sock = client(line)
    guest.loop.settle()
    try:
        assert received(sock) is None
    except ConnectionResetError:  # as for every socket that is closed with something unread
        pass
    assert guest.receive_all() == []


def test_a_line_may_come_in_pieces(guest, client):
    sock = client(b"CONN")
    guest.loop.settle()
    sock.sendall(b"ECT 5")
    guest.loop.settle()
    sock.sendall(b"2\n")
    (packet,) = guest.receive_all()
    assert packet.op == REQUEST


def test_what_follows_the_line_at_once_is_the_guests(guest, client):
    client(b"CONNECT 52\nGET / HTTP/1.1")
    guest.receive_all()
    guest.send(RESPONSE, PORT, FIRST_HOST_PORT)
    assert data_of(guest.receive_all()) == b"GET / HTTP/1.1"


def test_a_refused_program_finds_its_socket_closed_without_a_word(guest, client):
    sock = client()
    guest.receive_all()
    guest.send(RST, PORT, FIRST_HOST_PORT)
    assert received(sock) is None
    assert guest.receive_all() == []


def test_a_request_that_is_not_answered_ends_after_two_seconds(guest, client):
    sock = client()
    guest.receive_all()
    for _ in range(7):
        guest.loop.advance(0.25)
    assert received(sock) == b""
    guest.loop.advance(0.25)
    assert received(sock) is None
    assert [p.op for p in guest.receive_all()] == [RST]
    assert guest.device.counters.conns_killed == 1


def test_a_response_in_time_lets_the_connection_live(host_made):
    guest, sock, ports = host_made
    for _ in range(20):
        guest.loop.advance(0.25)
    guest.send(RW, *ports, b"late")
    assert received(sock) == b"late"


def test_a_program_that_does_not_wait_for_the_guest_is_forgotten(guest, client):
    client().close()
    client(b"").close()
    packets = guest.receive_all()
    assert [p.op for p in packets][-1] == RST
    assert guest.device._muxer.connections == {}


def test_host_ports_go_round(device, client):
    guest = Guest(device, bring_up=False)
    device.restore({"guest_cid": CID, "reset_mark": None, "next_port": LAST_HOST_PORT})
    guest = Guest(device)
    found = []
    for _ in range(3):
        client()
        found += [p.header.src_port for p in guest.receive_all()]
    assert found == [LAST_HOST_PORT, FIRST_HOST_PORT, FIRST_HOST_PORT + 1]


def test_a_port_in_use_is_left_out(guest, client):
    client()
    guest.receive_all()
    guest.device._muxer.next_port = FIRST_HOST_PORT
    client()
    assert guest.receive_all()[0].header.src_port == FIRST_HOST_PORT + 1


def test_a_port_that_the_guest_has_connected_to_is_left_out(guest, client, listen):
    guest_port = 5
    listen(FIRST_HOST_PORT)
    guest.send(REQUEST, guest_port, FIRST_HOST_PORT)
    assert guest.receive_all()[0].op == RESPONSE
    client(b"CONNECT 5\n")
    (request,) = guest.receive_all()
    assert request.header.src_port == FIRST_HOST_PORT + 1
    assert len(guest.device._muxer.connections) == 2


def test_programs_wait_while_the_guest_has_no_driver(device, client):
    sock = client()
    guest = Guest(device)
    assert [p.op for p in guest.receive_all()] == [REQUEST]
    guest.driver.write(0x70, 0)
    assert received(sock) is None
    client()
    guest = Guest(device)
    assert [p.op for p in guest.receive_all()] == [REQUEST]


# ---------------------------------------------------------- packets out of place


def test_a_packet_with_another_source_is_dropped(guest_made):
    guest, sock, ports = guest_made
    guest.send(RW, *ports, b"x", src_cid=CID + 1)
    assert received(sock) == b""
    assert guest.receive_all() == []


def test_a_packet_for_another_destination_is_reset_from_there(guest_made):
    guest, sock, ports = guest_made
    guest.send(RW, *ports, b"x", dst_cid=9)
    (packet,) = guest.receive_all()
    assert (packet.op, packet.header.src_cid, packet.header.dst_cid) == (RST, 9, CID)
    assert received(sock) == b""


def test_a_packet_of_another_type_is_reset_with_its_type(guest_made):
    guest, _, ports = guest_made
    guest.send(REQUEST, 77, PORT, type=2)
    guest.send(RW, *ports, b"x", type=2)
    assert [(p.op, p.header.type) for p in guest.receive_all()] == [(RST, 2), (RST, 2)]
    assert len(guest.device._muxer.connections) == 1


@pytest.mark.parametrize("op", [RESPONSE, RW, SHUTDOWN, CREDIT_UPDATE, CREDIT_REQUEST, 0, 99])
def test_a_packet_of_no_connection_is_reset(guest, op):
    guest.send(op, 7, 8)
    (packet,) = guest.receive_all()
    assert (packet.op, packet.ports) == (RST, (8, 7))


def test_a_reset_of_no_connection_is_not_answered(guest):
    guest.send(RST, 7, 8)
    assert guest.receive_all() == []


def test_a_repeated_request_and_an_unknown_operation_mean_nothing(pair):
    guest, sock, ports = pair
    guest.send(REQUEST, *ports)
    guest.send(99, *ports)
    assert guest.receive_all() == []
    guest.send(RW, *ports, b"fine")
    assert received(sock) == b"fine"


@pytest.mark.parametrize("raw", [b"", b"x" * 43, b"\0" * 24 + b"\xff\xff\xff\xff" + b"\0" * 16])
def test_a_packet_that_is_none_breaks_the_device(guest, raw):
    gpa = guest.driver.alloc(64, raw)
    guest.driver.queues[TX].add([(gpa, len(raw))], [])
    guest.driver.notify(TX)
    assert guest.is_broken
    assert guest.device.counters.tx_queue_event_fails == 1


def test_a_buffer_without_room_for_a_header_breaks_the_device(device):
    guest = Guest(device, buffer_size=43)
    guest.send(RW, 1, 2)
    assert guest.is_broken


def test_a_buffer_without_room_for_data_breaks_the_device(device, listen, sockets):
    guest = Guest(device, buffer_size=44)
    listener = listen(PORT)
    guest.send(REQUEST, 1000, PORT)
    accept(listener, sockets).sendall(b"x")
    guest.loop.settle()
    assert guest.is_broken
    assert guest.loop.watched == {}


# ----------------------------------------------------------------------- closing


def test_when_the_program_closes_the_guest_is_told_and_confirms(pair):
    guest, sock, ports = pair
    sock.sendall(b"bye")
    sock.close()
    packets = guest.receive_all()
    assert data_of(packets) == b"bye"
    assert [p.header.flags for p in packets if p.op == SHUTDOWN][-1] == BOTH
    guest.send(RST, *ports)
    assert guest.device._muxer.connections == {}
    assert guest.receive_all() == []
    assert guest.device.counters.conns_removed == 1
    assert guest.device.counters.conns_killed == 0


def test_a_close_that_the_guest_does_not_confirm_ends_with_a_reset(pair):
    guest, sock, _ = pair
    sock.close()
    guest.receive_all()
    for _ in range(9):
        guest.loop.advance(0.25)
    assert [p.op for p in guest.receive_all()] == [RST]
    assert guest.device._muxer.connections == {}


def test_when_the_program_ends_its_sending_the_guest_may_still_answer(pair):
    guest, sock, ports = pair
    sock.sendall(b"question")
    sock.shutdown(socket.SHUT_WR)
    packets = guest.receive_all()
    assert data_of(packets) == b"question"
    assert (packets[-1].op, packets[-1].header.flags) == (SHUTDOWN, SEND)
    for _ in range(20):
        guest.loop.advance(0.25)
    guest.send(RW, *ports, b"answer")
    assert received(sock) == b"answer"
    guest.send(SHUTDOWN, *ports, flags=BOTH)
    assert received(sock) is None
    assert [p.op for p in guest.receive_all()] == [RST]


def test_when_the_guest_ends_its_sending_the_program_may_still_answer(pair):
    guest, sock, ports = pair
    guest.send(RW, *ports, b"question")
    guest.send(SHUTDOWN, *ports, flags=SEND)
    assert sock.recv(100) == b"question"
    assert received(sock) is None
    sock.sendall(b"answer")
    assert data_of(guest.receive_all()) == b"answer"
    sock.close()
    (packet,) = guest.receive_all()
    assert (packet.op, packet.header.flags) == (SHUTDOWN, BOTH)


def test_when_both_end_their_sending_nothing_can_come_and_the_guest_is_told(pair):
    guest, sock, ports = pair
    guest.send(SHUTDOWN, *ports, flags=SEND)
    sock.shutdown(socket.SHUT_WR)
    packets = guest.receive_all()
    assert packets[-1].header.flags == BOTH
    guest.send(RST, *ports)
    assert guest.device._muxer.connections == {}


def test_when_the_guest_receives_no_more_the_program_cannot_send(pair):
    guest, sock, ports = pair
    guest.send(SHUTDOWN, *ports, flags=RCV)
    with pytest.raises(BrokenPipeError):
        sock.send(b"x")
    guest.send(RW, *ports, b"but i can")
    assert received(sock) == b"but i can"
    sock.close()
    assert guest.receive_all()[-1].header.flags == BOTH


def test_when_the_guest_closes_it_gets_a_reset_and_the_program_the_rest(pair):
    guest, sock, ports = pair
    guest.send(RW, *ports, b"rest")
    guest.send(SHUTDOWN, *ports, flags=BOTH)
    assert [p.op for p in guest.receive_all()] == [RST]
    assert sock.recv(10) == b"rest"
    assert received(sock) is None
    assert guest.device.counters.conns_killed == 0


def test_when_the_guest_resets_the_program_reads_the_end(pair):
    guest, sock, ports = pair
    guest.send(RST, *ports)
    assert received(sock) is None
    assert guest.receive_all() == []


def fill_up(guest, sock, ports):
    """Send until the program's socket and the device hold all they can; what was sent."""
    sent, rounds = bytearray(), 0
    while True:
        data = bytes((len(sent) // 4096 + i) & 0xFF for i in range(4096))
        guest.send(RW, *ports, data)
        sent += data
        held = guest.device._muxer.connections[ports[::-1]].buffer
        if len(held) > (64 << 10) - 4096:
            return bytes(sent)
        rounds += 1
        assert rounds < 1000


def test_a_close_waits_two_seconds_for_a_program_that_does_not_read(pair):
    guest, sock, ports = pair
    fill_up(guest, sock, ports)
    guest.send(SHUTDOWN, *ports, flags=BOTH)
    assert RST not in [p.op for p in guest.receive_all()]
    for _ in range(9):
        guest.loop.advance(0.25)
    assert [p.op for p in guest.receive_all()] == [RST]


def test_a_close_ends_as_soon_as_the_program_has_read_everything(pair):
    guest, sock, ports = pair
    sent = fill_up(guest, sock, ports)
    guest.send(SHUTDOWN, *ports, flags=BOTH)
    guest.receive_all()
    got = received(sock)
    guest.loop.settle()
    got += received(sock)
    assert got == sent
    assert [p.op for p in guest.receive_all()] == [RST]


# ------------------------------------------------------------- credit and buffers


def test_a_slow_program_is_waited_for_and_nothing_is_lost(pair):
    guest, sock, ports = pair
    sent = fill_up(guest, sock, ports)
    packets = guest.receive_all()
    told = max((p.header.fwd_cnt for p in packets), default=0)
    assert told <= len(sent) - (64 << 10) + 4096
    got = b""
    while len(got) < len(sent):
        got += sock.recv(10000)
        guest.loop.settle()
    assert got == sent
    updates = guest.receive_all()
    assert updates[-1].op == CREDIT_UPDATE
    assert updates[-1].header.fwd_cnt == len(sent)


def test_a_guest_that_sends_without_credit_loses_the_connection(pair):
    guest, sock, ports = pair
    fill_up(guest, sock, ports)
    guest.send(RW, *ports, bytes(4096))
    assert guest.receive_all()[-1].op == RST
    assert not guest.is_broken
    assert guest.device._muxer.connections == {}


def test_a_credit_request_is_answered(pair):
    guest, _, ports = pair
    guest.send(RW, *ports, b"12345")
    guest.send(CREDIT_REQUEST, *ports)
    (packet,) = guest.receive_all()
    assert (packet.op, packet.header.fwd_cnt, packet.header.buf_alloc) == (
        CREDIT_UPDATE,
        5,
        64 << 10,
    )


def test_without_credit_the_program_waits_and_the_guest_is_asked(pair):
    guest, sock, ports = pair
    guest.send(CREDIT_UPDATE, *ports, buf_alloc=10, fwd_cnt=0)
    sock.sendall(bytes(range(25)))
    packets = guest.receive_all()
    assert data_of(packets) == bytes(range(10))
    assert packets[-1].op == CREDIT_REQUEST
    calls = guest.loop.calls
    guest.loop.settle()
    assert guest.loop.calls == calls
    guest.send(CREDIT_UPDATE, *ports, buf_alloc=10)
    assert data_of(guest.receive_all()) == bytes(range(10, 20))
    guest.send(CREDIT_UPDATE, *ports, buf_alloc=1000)
    assert data_of(guest.receive_all()) == bytes(range(20, 25))


def test_a_program_that_closed_is_read_to_the_end_when_credit_comes(pair):
    guest, sock, ports = pair
    guest.send(CREDIT_UPDATE, *ports, buf_alloc=3, fwd_cnt=0)
    sock.sendall(b"abcdef")
    sock.close()
    assert data_of(guest.receive_all()) == b"abc"
    guest.send(CREDIT_UPDATE, *ports)
    packets = guest.receive_all()
    assert data_of(packets) == b"def"
    assert packets[-1].header.flags == BOTH


def test_without_buffers_nothing_is_read_and_nothing_spins(device, listen, sockets):
    guest = Guest(device, buffers=1)
    listener = listen(PORT)
    guest.send(REQUEST, 1000, PORT)
    sock = accept(listener, sockets)
    sock.sendall(b"x" * 10000)
    guest.loop.settle()
    (connection,) = device._muxer.connections.values()
    assert guest.loop.watched[connection.stream.fd][1] == 0
    calls = guest.loop.calls
    guest.loop.settle()
    assert guest.loop.calls == calls
    assert [p.op for p in guest.receive(offer=False)] == [RESPONSE]
    guest.offer(10)
    assert data_of(guest.receive_all()) == b"x" * 10000


def test_with_event_idx_the_guest_is_asked_to_ring_only_when_buffers_ran_out(guest_made):
    guest, sock, _ = guest_made
    queue = guest.driver.queues[RX]
    before = queue.avail_event
    sock.sendall(b"x")
    guest.loop.settle()
    assert queue.avail_event == before
    for _ in range(3):
        sock.sendall(bytes(100_000))
        guest.loop.settle()
    assert queue.avail_event == queue.avail_index


def test_several_buffers_are_filled_by_one_read(pair):
    guest, sock, _ = pair
    sock.sendall(bytes(100_000))
    packets = guest.receive_all()
    assert len(data_of(packets)) == 100_000
    assert max(p.header.size for p in packets) == 4096 - 44
    assert guest.device._muxer.connections != {}


def test_scattered_buffers_are_filled_in_order(device, listen, sockets):
    guest = Guest(device, buffers=0)
    listener = listen(PORT)
    parts = [20, 30, 7, 1000]
    for _ in range(2):
        gpas = [guest.driver.alloc(size) for size in parts]
        guest.driver.queues[RX].add([], list(zip(gpas, parts, strict=True)))
    guest.send(REQUEST, 1000, PORT)
    sock = accept(listener, sockets)
    sock.sendall(bytes(range(200)))
    guest.loop.settle()
    (_, first), (_, second) = guest.driver.queues[RX].take_used()
    assert (first, second) == (44, 244)
    raw = b"".join(guest.driver.memory.read(g, n) for g, n in zip(gpas, parts, strict=True))
    assert raw[44:244] == bytes(range(200))


def test_one_busy_stream_does_not_starve_the_others(guest, listen, sockets):
    listener = listen(PORT)
    for port in (1000, 1001):
        guest.send(REQUEST, port, PORT)
    guest.receive_all()
    busy, quiet = accept(listener, sockets), accept(listener, sockets)
    busy.sendall(bytes(150_000))
    quiet.sendall(b"me too")
    guest.loop.poll()
    packets = guest.receive()
    assert b"me too" in [p.data for p in packets]


def test_a_wake_up_serves_a_bounded_number_of_packets(guest_made):
    guest, sock, ports = guest_made
    for _ in range(250):
        guest.post(RW, *ports, b"x")
    guest.driver.notify(TX)
    assert len(guest.driver.queues[TX].take_used()) == 128
    guest.loop.advance(0)
    assert len(guest.driver.queues[TX].take_used()) == 122
    assert received(sock) == b"x" * 250


# -------------------------------------------------------------------------- many


def test_a_thousand_connections_and_one_too_many(guest, listen, sockets):
    listener = listen(PORT, backlog=2000)
    for port in range(MAX_CONNECTIONS):
        guest.send(REQUEST, 10_000 + port, PORT)
        if port % 50 == 0:
            guest.receive_all()
    guest.receive_all()
    hosts = [accept(listener, sockets) for _ in range(MAX_CONNECTIONS)]
    guest.send(REQUEST, 9_999, PORT)
    assert [p.op for p in guest.receive_all()] == [RST]
    for number, host in enumerate(hosts):
        host.sendall(b"%d" % number)
    found = {p.header.dst_port: p.data for p in guest.receive_all()}
    assert found == {10_000 + n: b"%d" % n for n in range(MAX_CONNECTIONS)}
    for number in range(MAX_CONNECTIONS):
        guest.send(RW, 10_000 + number, PORT, b"<%d>" % number)
    assert [received(host) for host in hosts] == [b"<%d>" % n for n in range(MAX_CONNECTIONS)]
    guest.send(SHUTDOWN, 10_000, PORT, flags=BOTH)
    assert [p.op for p in guest.receive_all()] == [RST]
    guest.send(REQUEST, 9_999, PORT)
    assert [p.op for p in guest.receive_all()] == [RESPONSE]


def test_a_program_that_is_one_too_many_is_sent_away(guest, listen, client):
    listen(PORT, backlog=2000)
    for port in range(MAX_CONNECTIONS):
        guest.send(REQUEST, 10_000 + port, PORT)
        if port % 50 == 0:
            guest.receive_all()
    guest.receive_all()
    sock = client()
    guest.receive_all()
    assert received(sock) is None


def test_a_flood_of_packets_for_nobody_is_bounded_and_does_not_stop_the_rest(device, listen):
    guest = Guest(device, buffers=0)
    for _ in range(20):
        for port in range(200):
            guest.post(RW, port, 1)
        guest.driver.notify(TX)
        guest.loop.advance(0)
        guest.driver.queues[TX].take_used()
    assert len(device._muxer.resets) == 1024
    guest.offer(200)
    assert len(guest.receive_all()) == 1024
    listen(PORT)
    guest.send(REQUEST, 1000, PORT)
    assert [p.op for p in guest.receive_all()] == [RESPONSE]


def test_connecting_and_resetting_without_buffers_leaves_nothing_behind(device, listen, sockets):
    guest = Guest(device, buffers=0)
    listener = listen(PORT)
    for _ in range(300):
        guest.send(REQUEST, 1000, PORT)
        guest.send(RST, 1000, PORT)
        accept(listener, sockets).close()
    muxer = device._muxer
    assert muxer.connections == {}
    assert not muxer._turns
    assert not muxer._queued
    assert not muxer.resets


# ------------------------------------------------------------------------ volume


class GuestStream:
    """One connection of a guest that keeps to its credit."""

    def __init__(self, guest, ports):
        self.guest, self.ports = guest, ports
        self.sent = self.forwarded = 0
        self.alloc = 64 << 10
        self.got = bytearray()

    def send_some(self, data):
        """Send what there is credit for; how much that was."""
        done = 0
        while done < len(data):
            credit = self.alloc - (self.sent - self.forwarded)
            size = min(credit, len(data) - done, 64 << 10)
            if size <= 0:
                break
            self.guest.send(RW, *self.ports, bytes(data[done : done + size]))
            self.sent += size
            done += size
        return done

    def take(self, packets):
        for packet in packets:
            assert packet.op in (RW, CREDIT_UPDATE, CREDIT_REQUEST)
            self.forwarded, self.alloc = packet.header.fwd_cnt, packet.header.buf_alloc
            self.got += packet.data
        if packets:
            self.guest.send(CREDIT_UPDATE, *self.ports)


def test_megabytes_arrive_in_both_directions_at_once(pair):
    guest, sock, ports = pair
    stream = GuestStream(guest, ports)
    out = bytes(i * 7 & 0xFF for i in range(1 << 20)) * 3
    back = bytes(i * 13 & 0xFF for i in range(1 << 20)) * 3
    sent = sent_back = 0
    got = bytearray()
    while len(got) < len(out) or len(stream.got) < len(back):
        sent += stream.send_some(memoryview(out)[sent : sent + (200 << 10)])
        try:
            sent_back += sock.send(back[sent_back : sent_back + (100 << 10)])
        except BlockingIOError:
            pass
        got += received(sock)
        guest.loop.settle()
        stream.take(guest.receive())
    assert got == out
    assert stream.got == back


# ------------------------------------------------------------------- life cycle


def offer_events(guest, count=4):
    for _ in range(count):
        gpa = guest.driver.alloc(8)
        guest.driver.queues[EVENT].add([], [(gpa, 8)])
    guest.driver.notify(EVENT)
    return gpa


def test_a_transport_reset_ends_all_connections_and_holds_packets_back(pair, client):
    guest, sock, ports = pair
    gpa = offer_events(guest, 1)
    guest.driver.memory.write(gpa, b"\xff" * 8)
    guest.device.reset_transport()
    assert received(sock) is None
    assert [written for _, written in guest.driver.queues[EVENT].take_used()] == [4]
    assert guest.driver.memory.read(gpa, 8) == bytes(4) + b"\xff" * 4
    late = client()
    guest.send(RW, *ports, b"x")
    assert guest.receive_all() == []
    guest.driver.queues[EVENT].add([], [(gpa, 8)])
    guest.driver.notify(EVENT)
    assert [p.op for p in guest.receive_all()] == [RST, REQUEST]
    assert received(late) == b""


def test_after_a_transport_reset_the_guest_is_asked_to_ring_for_the_next_event_buffer(guest):
    offer_events(guest, 8)
    guest.device.reset_transport()
    queue = guest.driver.queues[EVENT]
    assert queue.avail_event == queue.avail_index == 8


def test_an_old_bell_of_the_event_queue_does_not_confirm_the_reset(guest, client):
    offer_events(guest)
    guest.device.reset_transport()
    guest.driver.notify(EVENT)
    client()
    assert guest.receive_all() == []


def test_without_an_event_buffer_connections_end_and_nothing_is_held_back(pair, client):
    guest, sock, _ = pair
    guest.device.reset_transport()
    assert received(sock) is None
    assert guest.device.counters.ev_queue_event_fails == 1
    client()
    assert [p.op for p in guest.receive_all()] == [REQUEST]


def test_an_event_buffer_without_room_is_the_guests_mistake(guest):
    guest.driver.queues[EVENT].add([], [(guest.driver.alloc(8), 3)])
    with pytest.raises(Exception, match="an event buffer of 3 bytes"):
        guest.device.reset_transport()


def test_a_restored_device_is_empty_and_waits_for_the_guest_to_see_the_reset(guest_made, client):
    guest, _, ports = guest_made
    gpa = offer_events(guest)
    guest.device.reset_transport()
    saved = guest.driver.transport.state()
    guest.driver.transport.restore(saved)
    irqs = guest.irqs
    guest.device.kick()
    assert guest.irqs > irqs
    client()
    assert guest.receive_all() == []
    guest.driver.queues[EVENT].add([], [(gpa, 8)])
    guest.driver.notify(EVENT)
    assert [p.op for p in guest.receive_all()] == [REQUEST]
    guest.send(RW, *ports, b"x")
    assert [p.op for p in guest.receive_all()] == [RST]


def test_a_confirmation_whose_bell_was_lost_is_seen_by_the_kick(guest, client):
    gpa = offer_events(guest)
    guest.device.reset_transport()
    guest.driver.queues[EVENT].add([], [(gpa, 8)])
    guest.driver.transport.restore(guest.driver.transport.state())
    guest.device.kick()
    client()
    assert [p.op for p in guest.receive_all()] == [REQUEST]


def test_packets_that_waited_over_a_restore_are_served_by_the_kick(guest):
    guest.post(RW, 5, 6, b"x")
    guest.driver.transport.restore(guest.driver.transport.state())
    guest.device.kick()
    assert [p.op for p in guest.receive_all()] == [RST]


def test_a_reset_in_the_middle_of_work_closes_every_socket(pair):
    guest, sock, ports = pair
    fill_up(guest, sock, ports)
    for _ in range(200):
        guest.post(RW, 1, 2)
    guest.driver.notify(TX)
    guest.driver.write(0x70, 0)
    assert guest.loop.watched == {}
    assert all(timer.deadline is None for timer in guest.loop.timers)
    sock.settimeout(0)
    while sock.recv(1 << 20):
        pass


def test_a_driver_without_all_queues_is_refused(device):
    guest = Guest(device, bring_up=False)
    guest.driver.negotiate()
    guest.driver.write(0x70, 15)
    assert guest.is_broken


@given(
    st.integers(0, (1 << 32) - 1),
    st.integers(0, 1 << 33),
    st.one_of(st.none(), st.integers(0, 256)),
)
def test_state_survives_a_round_trip(cid, next_port, mark):
    device = VirtioVsock(cid, None)
    device.restore({"guest_cid": cid, "reset_mark": mark, "next_port": next_port})
    other = VirtioVsock(0, None)
    other.restore(device.state())
    assert other.state() == device.state()
    assert FIRST_HOST_PORT <= other.state()["next_port"] <= LAST_HOST_PORT


# ------------------------------------------------------------------ any packets

packets = st.lists(
    st.tuples(
        st.sampled_from([REQUEST, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST, 9]),
        st.integers(1, 3),  # guest port
        st.sampled_from([PORT, PORT + 1, FIRST_HOST_PORT]),
        st.binary(max_size=30),
        st.fixed_dictionaries(
            {},
            optional={
                "flags": st.integers(0, 4),
                "buf_alloc": st.sampled_from([0, 5, BUF_ALLOC, 0xFFFF_FFFF]),
                "fwd_cnt": st.sampled_from([0, 3, 0xFFFF_FFFF]),
                "src_cid": st.sampled_from([CID, 2]),
                "dst_cid": st.sampled_from([2, 1]),
                "type": st.sampled_from([1, 2]),
            },
        ),
        st.sampled_from(["", "host sends", "host closes", "host connects", "time"]),
    ),
    max_size=25,
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(packets)
def test_whatever_a_guest_sends_the_device_stays_whole(tmp_path_factory, steps):
    base = str(tmp_path_factory.mktemp("v") / "s")
    device = VirtioVsock(CID, UnixVsockHost(base))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{base}_{PORT}")
    listener.listen()
    listener.setblocking(False)
    socks = []
    try:
        guest = Guest(device, buffers=8)
        for op, guest_port, host_port, data, fields, then in steps:
            guest.send(op, guest_port, host_port, data, **fields)
            try:
                socks.append(listener.accept()[0])
            except BlockingIOError:
                pass
            if then == "host connects":
                socks.append(socket.socket(socket.AF_UNIX))
                socks[-1].connect(base)
                socks[-1].sendall(b"CONNECT 1\n")
            elif then == "host closes" and socks:
                socks.pop().close()
            elif then == "host sends" and socks:
                try:
                    socks[-1].send(b"data")
                except OSError:
                    pass
            elif then == "time":
                guest.loop.advance(0.25)
            guest.receive_all()
            muxer = device._muxer
            assert not guest.is_broken
            assert len(muxer.connections) <= 12
            assert all(not c.is_queued or c in muxer._turns for c in muxer.connections.values())
            assert {c.stream.fd for c in muxer.connections.values() if c.stream} <= set(
                guest.loop.watched
            )
        for _ in range(20):
            guest.loop.advance(0.25)
        guest.receive_all()
        assert not any(c.is_closing for c in device._muxer.connections.values())
    finally:
        if device.active is not None:
            device.deactivate()
        device.close()
        for sock in [listener, *socks]:
            sock.close()
