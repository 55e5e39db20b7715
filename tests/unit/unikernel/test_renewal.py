"""Sockets of a branch, and of a guest that was saved."""

import socket
from errno import ECONNRESET, ENOTCONN

import pytest

from pyrovm.abi import libos as abi
from pyrovm.errors import HostError
from pyrovm.snapshot import tree
from pyrovm.unikernel import addresses as ip
from tests.unit.unikernel.test_sockets import TCP, UDP, NetworkGuest, host_wait

HOST = "127.0.0.1"


@pytest.fixture(params=["branched", "saved"])
def again(request):
    """Makes a guest what a branch of another is: the same one, or one made from its data."""
    made = []

    def again(guest, **rules):
        if request.param == "branched":
            return guest, guest.sockets.renew()
        state = tree.decode(tree.encode(guest.sockets.state()))
        made.append(NetworkGuest(**rules))
        made[-1].sockets.restore(state)
        return made[-1], made[-1].sockets.renew()

    yield again
    for guest in made:
        guest.close()


@pytest.fixture
def guest():
    with_rules = NetworkGuest(**RULES)
    yield with_rules
    with_rules.close()


RULES = {"publish": ["0:80"], "allow": ["localhost"]}


def test_a_listener_has_a_port_of_its_own_and_serves(guest, again):
    listener = guest.listening(port=80)
    private = guest.listening(port=81)
    before = guest.host(listener).getsockname()
    other, ports = again(guest, **RULES)
    assert [(kind, port) for kind, port, _ in ports] == [(1, 80)]
    assert other.host(listener).getsockname() == (HOST, ports[0][2][1]) != before
    with socket.create_connection((HOST, ports[0][2][1]), timeout=20) as client:
        host_wait(other.host(listener))
        handle, peer = other.accept(listener)
        assert peer.startswith("203.0.113.1:")
        client.sendall(b"hello")
        host_wait(other.host(handle))
        assert other.receive(handle)[:2] == (5, b"hello") or other.host(handle)
    inside = other.open()
    other.connect(inside, HOST, 81)
    host_wait(other.host(private))
    assert other.accept(private)[1].startswith(HOST)


def test_a_connection_has_been_reset(guest, again):
    with socket.create_server((HOST, 0)) as server:
        handle = guest.open()
        guest.connect(handle, HOST, server.getsockname()[1])
        guest.connected(handle)
        peer = guest.peer(handle)
        assert peer == f"{HOST}:{server.getsockname()[1]}"
        other, _ = again(guest, **RULES)
        with pytest.raises(ConnectionResetError) as caught:
            other.host(handle).recv(1)
        assert caught.value.errno == ECONNRESET
        assert other.peer(handle) == -ENOTCONN


def test_datagrams_go_on_from_another_port(guest, again):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((HOST, 0))
        server.settimeout(20)
        handle = guest.open(UDP)
        assert guest.connect(handle, HOST, server.getsockname()[1]) == 0
        assert guest.send(handle, b"before") == 6
        first = server.recvfrom(10)
        name = guest.name(handle)
        other, _ = again(guest, **RULES)
        assert other.name(handle) == name
        assert other.send(handle, b"after") == 5
        second = server.recvfrom(10)
    assert (first[0], second[0]) == (b"before", b"after")
    assert first[1] != second[1]


def test_handles_that_were_free_are_given_out_again(guest, again):
    handles = [guest.open() for _ in range(4)]
    guest.call(abi.PV_CLOSE, handles[1])
    other, _ = again(guest, **RULES)
    assert sorted(other.open(TCP) for _ in range(2)) == [handles[1], handles[-1] + 1]


def test_a_port_that_is_taken_is_an_error_by_name(guest):
    guest.listening(port=80)
    with socket.create_server((HOST, 0)) as taken:
        number = taken.getsockname()[1]
        guest.sockets._bindings.policy.republish([f"{number}:80"])
        with pytest.raises(HostError, match=f"Port 80 of the branch .* {HOST}:{number}: Address"):
            guest.sockets.renew()


@pytest.mark.parametrize("field", ["handle", "kind", "local", "options"])
def test_data_that_is_damaged_is_refused(guest, field):
    guest.listening(port=80)
    (state,) = guest.sockets.state()
    other = NetworkGuest(**RULES)
    with pytest.raises((KeyError, TypeError, ValueError, OSError)):
        other.sockets.restore([{**state, field: ["x"]}])
    with pytest.raises(KeyError):
        other.sockets.restore([{name: v for name, v in state.items() if name != field}])
    other.close()


def test_who_rests_for_good_gives_its_ports_back(guest):
    listener = guest.listening(port=80)
    at = guest.host(listener).getsockname()
    guest.sockets.let_go()
    with socket.socket() as client:
        assert client.connect_ex(at)
    assert ip.from_host(guest.host(listener).getsockname())[1] == 0
