"""Which socket of the guest has a port."""

from errno import EADDRINUSE

import pytest

from pyrovm.unikernel import addresses as ip
from pyrovm.unikernel.ports import EPHEMERAL, Ports


class Holder:
    def __init__(self, *, v6_only=False, reuse_address=False, reuse_port=False, listening=True):
        self.v6_only = v6_only
        self.reuse_address = reuse_address
        self.reuse_port = reuse_port
        self.listening = listening


@pytest.mark.parametrize(
    ("first", "second", "v6_only", "conflict"),
    [
        ("127.0.0.1", "127.0.0.1", False, True),
        ("127.0.0.1", "127.0.0.2", False, False),
        ("0.0.0.0", "127.0.0.1", False, True),
        ("::", "127.0.0.1", False, True),
        ("::", "0.0.0.0", False, True),
        ("::", "0.0.0.0", True, False),
        ("::1", "127.0.0.1", False, False),
        ("::", "::1", True, True),
    ],
)
def test_who_is_in_the_way_of_whom(first, second, v6_only, conflict):
    for one, two in ((first, second), (second, first)):
        ports = Ports()
        assert ports.claim(ip.parse(one), 80, Holder(v6_only=v6_only)) == 80
        result = ports.claim(ip.parse(two), 80, Holder(v6_only=v6_only))
        assert result == (-EADDRINUSE if conflict else 80)


def test_a_port_is_used_twice_only_where_both_agree():
    def second(one, two):
        ports = Ports()
        ports.claim(ip.ANY4, 80, one)
        return ports.claim(ip.ANY4, 80, two)

    assert second(Holder(reuse_port=True), Holder(reuse_port=True)) == 80
    assert second(Holder(reuse_port=True), Holder()) == -EADDRINUSE
    quiet = Holder(reuse_address=True, listening=False)
    assert second(quiet, Holder(reuse_address=True, listening=False)) == 80
    assert second(Holder(reuse_address=True), Holder(reuse_address=True)) == -EADDRINUSE


def test_the_most_specific_one_gets_it():
    ports, everybody, one = Ports(), Holder(listening=False), Holder(listening=False)
    ports.claim(ip.LOOPBACK4, 53, one)
    six = Holder(v6_only=True)
    ports.claim(ip.ANY6, 53, six)
    assert ports.find(ip.LOOPBACK4, 53, listening=False) is one
    assert ports.find(ip.LOOPBACK4, 53, listening=True) is None
    assert ports.find(ip.LOOPBACK6, 53, listening=True) is six
    assert ports.find(ip.LOOPBACK4 + 1, 53, listening=False) is None
    ports.release(53, one)
    ports.claim(ip.ANY4, 53, everybody)
    assert ports.find(ip.LOOPBACK4, 53, listening=False) is everybody


def test_ports_are_chosen_until_there_are_none():
    ports, holder = Ports(), Holder()
    chosen = {ports.claim(ip.ANY4, 0, holder) for _ in EPHEMERAL}
    assert chosen == set(EPHEMERAL)
    assert ports.claim(ip.ANY4, 0, holder) < 0
    ports.release(40000, holder)
    assert ports.claim(ip.ANY4, 0, holder) == 40000
