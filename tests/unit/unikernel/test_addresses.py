"""Addresses: text, numbers, and the guest's struct sockaddr."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.unikernel import addresses as ip


@given(st.ip_addresses())
def test_text_of_every_address_is_the_usual_one_and_reads_back(address):
    number = ip.V4 | int(address) if address.version == 4 else int(address)
    mapped = address.version == 6 and address.ipv4_mapped
    assert ip.text(number) == str(mapped or address)
    assert ip.parse(str(address)) == number


@given(st.text("0123456789abcdef:.", max_size=20))
def test_what_is_no_address_is_refused_as_ipaddress_does(text):
    try:
        expected = ipaddress.ip_address(text)
    except ValueError:
        expected = None
    try:
        found = ip.parse(text)
    except ValueError:
        found = None
    assert (found is None) == (expected is None)


@pytest.mark.parametrize(("family", "text"), [(2, "1.2.3.4"), (10, "2001:db8::5")])
def test_sockaddr_is_the_kernels(family, text):
    raw = ip.pack(family, (ip.parse(text), 8080))
    assert raw[:2] == family.to_bytes(2, "little")
    assert raw[2:4] == b"\x1f\x90"
    assert socket.inet_pton(family, text) in raw
    assert ip.unpack(raw) == (family, ip.parse(text), 8080)
    assert len(raw) == {2: 16, 10: 28}[family]


def test_an_ipv4_address_on_an_ipv6_socket_is_the_same_address():
    raw = ip.pack(ip.AF_INET6, (ip.LOOPBACK4, 1))
    assert ip.unpack(raw) == (ip.AF_INET6, ip.LOOPBACK4, 1)
    assert ip.to_host(ip.AF_INET6, (ip.LOOPBACK4, 1)) == ("::ffff:127.0.0.1", 1)


@given(st.binary(max_size=40))
def test_arbitrary_bytes_are_an_address_or_an_error(raw):
    try:
        family, address, port = ip.unpack(raw)
    except ValueError:
        return
    assert ip.unpack(ip.pack(family, (address, port))) == (family, address, port)
