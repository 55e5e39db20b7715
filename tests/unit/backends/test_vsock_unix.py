import os
import resource
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.backends.vsock_unix import MAX_CLIENTS, UnixStream, UnixVsockHost, parse_connect
from pyrovm.errors import HostError
from pyrovm.machine.loop import EventLoop


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "v.sock")


@pytest.fixture
def host(path):
    made = UnixVsockHost(path)
    yield made
    made.close()


@pytest.fixture
def loop():
    made = EventLoop()
    yield made
    made.close()


@pytest.fixture
def streams(host, loop):
    """What the host hands over once it has been started: (stream, guest port)."""
    found = []
    host.start(loop, lambda stream, port: found.append((stream, port)))
    yield found
    host.stop()
    for stream, _ in found:
        stream.close()


def client(path, line=b"CONNECT 5\n"):
    made = socket.socket(socket.AF_UNIX)
    made.connect(path)
    made.sendall(line)
    return made


def run(loop, rounds=20):
    for _ in range(rounds):
        loop.run_once(0)


# --------------------------------------------------------------------- binding


def test_the_socket_exists_from_the_making_on_and_stays_when_closed(path):
    host = UnixVsockHost(path)
    assert os.path.exists(path)
    with client(path):
        pass
    host.close()
    assert os.path.exists(path)


def test_a_path_that_is_taken_is_refused(path, host):
    with pytest.raises(HostError) as refused:
        UnixVsockHost(path)
    assert str(refused.value) == (
        "Error binding to the host-side Unix socket: Address in use (os error 98)"
    )
    assert refused.value.errno == 98


def test_a_path_that_cannot_be_is_refused(tmp_path):
    with pytest.raises(HostError, match="No such file or directory"):
        UnixVsockHost(str(tmp_path / "no" / "v.sock"))
    with pytest.raises(HostError, match="host-side Unix socket: AF_UNIX path too long"):
        UnixVsockHost("/" + "x" * 200)


# ------------------------------------------------------------------- the line


def test_a_program_is_handed_over_with_its_port(path, loop, streams):
    with client(path, b"CONNECT 77\nrest"):
        run(loop)
        ((stream, port),) = streams
        assert port == 77
        buffer = bytearray(10)
        assert stream.read([memoryview(buffer)]) == 4
        assert buffer[:4] == b"rest"


def test_programs_wait_until_the_host_is_started(path, host, loop):
    with client(path):
        found = []
        host.start(loop, lambda stream, port: found.append((stream, port)))
        run(loop)
        assert len(found) == 1
        host.stop()
        found[0][0].close()


def test_stopping_sends_away_who_is_in_the_middle_of_the_line(path, host, loop):
    host.start(loop, lambda *_: None)
    with client(path, b"CONN") as sock:
        run(loop)
        host.stop()
        sock.settimeout(1)
        assert sock.recv(10) == b""
    host.stop()


def test_too_many_silent_programs_cost_the_oldest_its_place(path, loop, streams, host):
    silent = []
    try:
        for _ in range(MAX_CLIENTS + 1):
            silent.append(client(path, b"C"))
            loop.run_once(0)
        run(loop, 100)
        assert len(host._clients) == MAX_CLIENTS
        silent[0].settimeout(1)
        assert silent[0].recv(1) == b""
        silent[1].setblocking(False)
        with pytest.raises(BlockingIOError):
            silent[1].recv(1)
    finally:
        for sock in silent:
            sock.close()


def test_without_descriptors_left_accepting_pauses_and_does_not_spin(path, loop, streams, host):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with client(path):
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            run(loop)
            assert host._pause.armed
            assert loop._events[host._listener.fileno()] == 0
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        host._pause.arm(0)
        run(loop)
        assert len(streams) == 1


@given(st.binary(max_size=32))
def test_any_line_is_a_port_or_nothing(line):
    port = parse_connect(line)
    assert port is None or 0 <= port <= 0xFFFF_FFFF


@given(st.integers(0, 0xFFFF_FFFF), st.sampled_from(["connect", "CONNECT", "Connect"]))
def test_every_port_can_be_asked_for(port, word):
    assert parse_connect(f"{word} {port}\n".encode()) == port


# ------------------------------------------------------------------- streams


def stream_pair():
    one, other = socket.socketpair()
    import _socket

    return UnixStream(_socket.socket(fileno=one.detach())), other


def test_a_stream_reads_and_writes_scattered_memory_and_never_waits():
    stream, other = stream_pair()
    assert stream.read([memoryview(bytearray(5))]) is None
    assert stream.write([memoryview(b"ab"), memoryview(b"cde")]) == 5
    assert other.recv(10) == b"abcde"
    other.sendall(b"12345")
    one, two = bytearray(2), bytearray(9)
    assert stream.read([memoryview(one), memoryview(two)]) == 5
    assert one + two[:3] == b"12345"
    total = 0
    while done := stream.write([memoryview(bytes(65536))]):
        total += done
    assert total > 0
    assert done == 0
    stream.close()
    other.close()


def test_more_views_than_the_kernel_takes_at_once_are_partly_filled():
    stream, other = stream_pair()
    other.sendall(bytes(range(256)) * 8)
    views = [memoryview(bytearray(1)) for _ in range(2000)]
    assert stream.read(views) == 1024
    assert b"".join(views[:256]) == bytes(range(256))
    assert stream.write(views) == 1024
    stream.close()
    other.close()


def test_the_end_is_told_apart_from_nobody_reading():
    stream, other = stream_pair()
    other.shutdown(socket.SHUT_WR)
    assert stream.read([memoryview(bytearray(5))]) == 0
    assert stream.write([memoryview(b"x")]) == 1
    other.close()
    assert stream.write([memoryview(b"x")]) is None
    stream.close()


def test_what_a_closing_program_left_unread_is_a_reset():
    stream, other = stream_pair()
    stream.write([memoryview(b"never read")])
    other.close()
    with pytest.raises(HostError, match="vsock: read: Connection reset"):
        stream.read([memoryview(bytearray(5))])
    stream.close()


def test_shutting_down_after_the_other_end_is_gone_does_no_harm():
    stream, other = stream_pair()
    other.close()
    stream.close_read()
    stream.close_write()
    stream.close()


# ----------------------------------------------------------------- connecting


def test_connecting_reaches_the_socket_named_after_the_port(path, host):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path + "_1234")
        listener.listen(0)
        first = host.connect(1234)
        assert first is not None
        assert host.connect(1234) is None
        first.close()
    with pytest.raises(HostError, match=r"v\.sock_1234: Connection refused"):
        host.connect(1234)
    with pytest.raises(HostError, match=r"v\.sock_1235: No such file"):
        host.connect(1235)
