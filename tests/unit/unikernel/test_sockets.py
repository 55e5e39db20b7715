"""PV_SOCKET as a guest calls it, with the host's real sockets."""

import socket
import threading
from errno import (
    EACCES,
    EADDRINUSE,
    EADDRNOTAVAIL,
    EAFNOSUPPORT,
    EAGAIN,
    EBADF,
    ECONNREFUSED,
    EDESTADDRREQ,
    EFAULT,
    EINPROGRESS,
    EINVAL,
    ENOPROTOOPT,
    ENOTCONN,
    ENOTSOCK,
    EPROTONOSUPPORT,
)

import pytest

from pyrovm.abi import libos as abi
from pyrovm.unikernel import addresses as ip
from pyrovm.unikernel.names import lookup
from pyrovm.unikernel.policy import Policy
from pyrovm.unikernel.sockets import Sockets
from tests.fakes.hypercalls import DATA_AT, RAM, Guest
from tests.unit.unikernel.test_dns import question

WAIT = 20
MSG_PEEK, MSG_TRUNC = 2, 0x20
TCP, UDP = (1, 6), (2, 17)


class NetworkGuest(Guest):
    def __init__(self, allow=(), publish=(), find=lookup):
        super().__init__()
        self.log = []
        self.sockets = Sockets(self.calls, Policy(allow, publish), self.log.append, find)

    def open(self, kind=TCP, family=ip.AF_INET):
        return self.socket_call(abi.PV_SOCKET_OPEN, 0, family, *kind)

    def on(self, operation, handle, address="", port=0, family=ip.AF_INET):
        data = ip.pack(family, (ip.parse(address), port)) if address else b""
        return self.socket_call(operation, handle, data=data, length=None if data else 128)

    def bind(self, handle, address="0.0.0.0", port=0, family=ip.AF_INET):
        return self.on(abi.PV_SOCKET_BIND, handle, address, port, family)

    def connect(self, handle, address, port, family=ip.AF_INET):
        return self.on(abi.PV_SOCKET_CONNECT, handle, address, port, family)

    def listening(self, address="0.0.0.0", port=0, family=ip.AF_INET):
        handle = self.open(TCP, family)
        assert self.bind(handle, address, port, family) == 0
        assert self.socket_call(abi.PV_SOCKET_LISTEN, handle, 16) == 0
        return handle

    def name(self, handle, operation=abi.PV_SOCKET_NAME):
        result = self.on(operation, handle)
        return result if result < 0 else ip.endpoint_text(ip.unpack(self.address)[1:])

    def peer(self, handle):
        return self.name(handle, abi.PV_SOCKET_PEER)

    def accept(self, handle):
        result = self.on(abi.PV_SOCKET_ACCEPT, handle)
        return result if result < 0 else (result, ip.endpoint_text(ip.unpack(self.address)[1:]))

    def connected(self, handle):
        """Wait for what is under way."""
        host = self.host(handle)
        host_wait(host, write=True)
        return handle

    def host(self, handle):
        return self.sockets._sockets[handle].host

    def close(self):
        super().close()
        self.sockets.close()


def host_wait(host, *, write=False):
    import select

    poll = select.poll()
    poll.register(host.fileno(), select.POLLOUT if write else select.POLLIN)
    assert poll.poll(WAIT * 1000)


@pytest.fixture
def make():
    made = []

    def make(*arguments, **options):
        made.append(NetworkGuest(*arguments, **options))
        return made[-1]

    yield make
    for guest in made:
        guest.close()


def address(text, port, family=ip.AF_INET):
    return ip.pack(family, (ip.parse(text), port))


def test_a_guest_talks_to_itself_under_its_own_addresses(make):
    guest = make()
    server = guest.listening("127.0.0.1", 8080)
    assert guest.name(server) == "127.0.0.1:8080"
    assert guest.accept(server) == -EAGAIN
    client = guest.open()
    assert guest.connect(client, "127.0.0.1", 8080) in (0, -EINPROGRESS)
    guest.connected(client)
    made, peer = guest.accept(server)
    assert guest.name(client) == peer == guest.peer(made)
    assert guest.peer(client) == guest.name(made) == "127.0.0.1:8080"
    assert guest.send(client, b"hello") == 5
    host_wait(guest.host(made))
    assert guest.receive(made, 2, MSG_PEEK) == b"he"
    assert guest.receive(made) == b"hello"
    assert guest.receive(made) == -EAGAIN
    assert guest.socket_call(abi.PV_SOCKET_SHUTDOWN, client, 1) == 0
    host_wait(guest.host(made))
    assert guest.receive(made) == b""


def test_a_stranger_on_the_host_does_not_get_in(make):
    guest = make()
    server = guest.listening(port=80)
    port = guest.host(server).getsockname()[1]
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        host_wait(guest.host(server))
        assert guest.accept(server) == -EAGAIN
        stranger.settimeout(WAIT)
        assert stranger.recv(1) == b""


def test_a_stranger_sends_no_datagrams(make):
    guest = make(allow=["*"])
    receiver, sender = guest.open(UDP), guest.open(UDP)
    guest.bind(receiver, port=5000)
    host = guest.host(receiver)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"from outside", ("127.0.0.1", host.getsockname()[1]))
        guest.send(sender, b"from inside", address("127.0.0.1", 5000))
        host_wait(host)
        assert guest.receive(receiver, 5, MSG_TRUNC) == b"from "
    assert ip.unpack(guest.address)[1:] == (ip.LOOPBACK4, int(guest.name(sender).split(":")[1]))
    assert bytes(guest.ram[DATA_AT : DATA_AT + 12]) != b"from outside"


def test_a_published_port_shows_callers_from_the_host_as_the_gateway(make):
    guest = make(publish=["127.0.0.1:0:8080"])
    server = guest.listening(port=8080)
    at = guest.log[0].rpartition(" ")[2].split(":")
    with socket.create_connection((at[0], int(at[1]))) as client:
        host_wait(guest.host(server))
        made, peer = guest.accept(server)
        assert peer == f"203.0.113.1:{client.getsockname()[1]}"
        assert guest.name(made) == "203.0.113.2:8080"
    own = guest.open()
    assert guest.connect(own, "127.0.0.1", 8080) in (0, -EINPROGRESS)
    guest.connected(own)
    made, peer = guest.accept(server)
    assert peer == guest.name(own) != "203.0.113.1:0"
    assert guest.name(made) == "127.0.0.1:8080"


def test_a_server_of_both_families_is_published_by_its_first_socket(make):
    guest = make(publish=["127.0.0.1:0:8080"])
    first = guest.listening(port=8080)
    second = guest.open(TCP, ip.AF_INET6)
    option = guest.socket_call(abi.PV_SOCKET_SETOPT, second, 41, 26, data=b"\1\0\0\0")
    assert option == 0  # IPV6_V6ONLY
    assert guest.bind(second, "::", 8080, ip.AF_INET6) == 0
    assert guest.socket_call(abi.PV_SOCKET_LISTEN, second, 16) == 0
    assert len(guest.log) == 1
    with socket.create_connection(guest.host(first).getsockname()):
        host_wait(guest.host(first))
        assert guest.accept(first)[1].startswith("203.0.113.1:")
    own = guest.open(TCP, ip.AF_INET6)
    assert guest.connect(own, "::1", 8080, ip.AF_INET6) in (0, -EINPROGRESS)
    guest.connected(own)
    assert guest.accept(second)[1] == guest.name(own)
    for handle in (first, second):
        assert guest.call(abi.PV_CLOSE, handle) == 0
    assert guest.name(guest.listening(port=8080)) == "0.0.0.0:8080"
    assert len(guest.log) == 2


def test_a_denied_connection_fails_at_once_and_is_told_once(make):
    guest = make(allow=["10.0.0.0/8:443"])
    for _ in range(3):
        handle = guest.open()
        assert guest.connect(handle, "10.0.0.1", 80) == -EACCES
        assert guest.peer(handle) == -ENOTCONN
    assert guest.log == ["the program may not connect to 10.0.0.1:80; add --allow 10.0.0.1:80"]
    for number in range(300):
        guest.connect(guest.open(UDP), "192.168.0.1", 1000 + number)
    assert len(guest.log) < 80


def test_the_loopback_of_the_host_needs_a_rule_of_its_own(make):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        guest = make(allow=["*", "0.0.0.0/0"])
        for text in ("127.0.0.1", "0.0.0.0", "203.0.113.2", "127.1.2.3"):
            assert guest.connect(guest.open(), text, port) == -ECONNREFUSED
        six = guest.open(TCP, ip.AF_INET6)
        assert guest.connect(six, "127.0.0.1", port, ip.AF_INET6) == -ECONNREFUSED
        guest = make(allow=[f"127.0.0.1:{port}"])
        handle = guest.open()
        assert guest.connect(handle, "127.0.0.1", port) in (0, -EINPROGRESS)
        server.accept()[0].close()


def test_ports_of_the_guest_are_its_own(make):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        guest = make()
        port = taken.getsockname()[1]
        guest.listening("127.0.0.1", port)
        assert guest.bind(guest.open(), "0.0.0.0", port) == -EADDRINUSE
        assert guest.bind(guest.open(), "9.9.9.9", 80) == -EADDRNOTAVAIL
        assert guest.bind(guest.open(), "::1", 80, ip.AF_INET6) == -EAFNOSUPPORT


def test_both_families_reach_a_listener_for_all(make):
    guest = make()
    server = guest.listening("::", 80, ip.AF_INET6)
    four, six = guest.open(), guest.open(TCP, ip.AF_INET6)
    assert guest.connect(four, "127.0.0.1", 80) in (0, -EINPROGRESS)
    assert guest.connect(six, "::1", 80, ip.AF_INET6) in (0, -EINPROGRESS)
    guest.connected(four)
    guest.connected(six)
    peers = [guest.accept(server)[1] for _ in range(2)]
    assert peers == [guest.name(four), guest.name(six)]
    assert peers[1].startswith("[::1]:")


def test_datagrams_between_sockets_of_the_guest(make):
    guest = make()
    one, two = guest.open(UDP), guest.open(UDP)
    assert guest.send(one, b"x") == -EDESTADDRREQ
    assert guest.send(one, b"lost", address("127.0.0.1", 7)) == 4
    guest.bind(two, "127.0.0.1", 7)
    assert guest.connect(one, "127.0.0.1", 7) == 0
    assert guest.send(one, b"found") == 5
    host_wait(guest.host(two))
    assert guest.receive(two) == b"found"
    back = guest.address
    assert guest.name(one) == ip.endpoint_text(ip.unpack(back)[1:])
    assert guest.send(two, b"back", back) == 4
    host_wait(guest.host(one))
    assert guest.receive(one) == b"back"
    assert guest.socket_call(abi.PV_SOCKET_CONNECT, one, data=bytes(16)) == 0
    assert guest.peer(one) == -ENOTCONN


def test_datagrams_outlive_their_sender_but_leave_no_door_open(make):
    guest = make()
    sender, receiver = guest.open(UDP), guest.open(UDP)
    guest.bind(receiver, "127.0.0.1", 7)
    to = address("127.0.0.1", 7)
    assert [guest.send(sender, b"1", to), guest.send(sender, b"2", to)] == [1, 1]
    name, port = guest.name(sender), guest.host(sender).getsockname()[1]
    guest.call(abi.PV_CLOSE, sender)
    host = guest.host(receiver)
    host_wait(host)
    assert [guest.receive(receiver, 9, MSG_PEEK), guest.receive(receiver)] == [b"1", b"1"]
    assert ip.unpack(guest.address)[1] == ip.LOOPBACK4
    assert guest.receive(receiver) == b"2"
    assert name.endswith(f":{ip.unpack(guest.address)[2]}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", port))
        stranger.sendto(b"3", host.getsockname())
        host_wait(host)
        assert guest.receive(receiver) == -EAGAIN


def test_a_name_is_asked_for_by_datagram_and_by_stream(make):
    outside = ip.parse("93.184.216.34")
    guest = make(allow=["example.com:443"], find=lambda _: [outside])
    handle = guest.open(UDP)
    assert guest.connect(handle, "127.0.0.53", 53) == 0
    assert guest.send(handle, question()) == len(question())
    host_wait(guest.host(handle))
    assert guest.receive(handle).endswith(b"\x5d\xb8\xd8\x22")
    assert ip.unpack(guest.address)[1:] == (ip.parse("127.0.0.53"), 53)
    stream = guest.open()
    assert guest.connect(stream, "127.0.0.53", 53) in (0, -EINPROGRESS)
    guest.connected(stream)
    assert guest.peer(stream) == "127.0.0.53:53"
    guest.send(stream, len(question()).to_bytes(2, "big") + question())
    host_wait(guest.host(stream))
    answer = guest.receive(stream)
    assert answer.endswith(b"\x5d\xb8\xd8\x22")
    assert len(answer) == 2 + int.from_bytes(answer[:2], "big")


def test_datagrams_to_the_world_get_answers_from_there_only(make):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(WAIT)
        port = server.getsockname()[1]
        guest = make(allow=[f"127.0.0.1:{port}"])
        handle = guest.open(UDP)
        assert guest.send(handle, b"ask", address("127.0.0.1", port)) == 3
        data, source = server.recvfrom(100)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"spoofed", source)
            server.sendto(data.upper(), source)
            host_wait(guest.host(handle))
            assert guest.receive(handle) == b"ASK"
        assert guest.send(handle, b"x", address("127.0.0.1", port + 1 & 0xFFFF or 1)) == 1
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.recv(1)


def option(guest, handle, level, name, value=None):
    if value is None:
        result = guest.socket_call(abi.PV_SOCKET_GETOPT, handle, level, name, length=8)
        return result if result < 0 else int.from_bytes(guest.address[:4], "little")
    data = value.to_bytes(4, "little")
    return guest.socket_call(abi.PV_SOCKET_SETOPT, handle, level, name, data=data)


def test_options_that_matter_reach_the_host_and_no_others(make):
    guest = make()
    handle = guest.open()
    assert option(guest, handle, 6, 1, 1) == 0  # TCP_NODELAY
    assert guest.host(handle).getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert option(guest, handle, 6, 1) == 1
    assert option(guest, handle, 1, 2, 1) == 0  # SO_REUSEADDR: of the guest's own ports
    assert (option(guest, handle, 1, 2), option(guest, handle, 1, 15)) == (1, 0)
    for level, name in ((1, 25), (1, 26), (1, 36), (0, 35), (41, 20), (6, 31), (-5, 2**31 - 1)):
        assert option(guest, handle, level, name, 1) == -ENOPROTOOPT
    assert guest.socket_call(abi.PV_SOCKET_GETOPT, handle, 6, 1, length=0) == 0
    linger = (1).to_bytes(4, "little") + (1000).to_bytes(4, "little")
    assert guest.socket_call(abi.PV_SOCKET_SETOPT, handle, 1, 13, data=linger) == 0
    assert guest.socket_call(abi.PV_SOCKET_GETOPT, handle, 1, 13, length=8) == 0
    assert guest.address == linger
    assert guest.host(handle).getsockopt(1, 13, 8) == bytes(8)  # else our close would wait


def test_arguments_that_are_out_of_bounds_are_errors(make):
    guest = make()
    handle = guest.open()
    size = abi.pv_socket_args.SIZE
    assert guest.call(abi.PV_SOCKET, 99, handle, 0x1000, size) == -EINVAL
    assert guest.call(abi.PV_SOCKET, 6, handle, 0x1000, size + 1) == -EINVAL
    assert guest.call(abi.PV_SOCKET, 6, handle, RAM - 8, size) == -EFAULT
    assert guest.call(abi.PV_SOCKET, 6, handle, 2**64 - 8, size) == -EFAULT
    assert guest.socket_call(abi.PV_SOCKET_NAME, 0) == -ENOTSOCK
    assert guest.socket_call(abi.PV_SOCKET_NAME, 2**63) == -ENOTSOCK
    assert guest.socket_call(abi.PV_SOCKET_OPEN, 0, 16, 3, 0) == -EAFNOSUPPORT
    assert guest.socket_call(abi.PV_SOCKET_OPEN, 0, 2, 3, 1) == -EPROTONOSUPPORT
    assert guest.socket_call(abi.PV_SOCKET_BIND, handle, data=b"\2\0\0") == -EINVAL
    assert guest.socket_call(abi.PV_SOCKET_SHUTDOWN, handle, 3) == -EINVAL
    pieces = [(RAM - 1, 2)]
    assert guest.socket_call(abi.PV_SOCKET_SEND, handle, pieces=pieces) == -EFAULT
    assert guest.socket_call(abi.PV_SOCKET_RECEIVE, handle, pieces=[(0, 2**40)]) == -EFAULT
    assert guest.socket_call(abi.PV_SOCKET_SEND, handle, pieces=[(0, 1)] * 65) == -EFAULT


def test_a_handle_of_datagrams_is_not_read_past_the_checks(make):
    guest = make()
    handle = guest.open(UDP)
    assert guest.call(abi.PV_READ, handle, 0x2000, 0, 2**64 - 1) == -EBADF
    assert guest.call(abi.PV_CLOSE, handle) == 0
    assert guest.call(abi.PV_CLOSE, handle) == -EBADF


def test_closing_gives_ports_and_descriptors_back(make):
    guest = make()
    for _ in range(50):
        server = guest.listening("127.0.0.1", 80)
        client = guest.open()
        guest.connect(client, "127.0.0.1", 80)
        receiver = guest.open(UDP)
        assert guest.bind(receiver, "127.0.0.1", 80) == 0
        for handle in (server, client, receiver):
            assert guest.call(abi.PV_CLOSE, handle) == 0
    assert not guest.sockets._sockets
    assert not guest.sockets._bindings.datagram
    assert not guest.sockets._streams._connectors
    assert threading.active_count() < 20
