"""Frames in, frames out: what is taken from the guest, what it gets back, what is counted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrovm.mmds.counters import MmdsCounters
from pyrovm.mmds.frames import (
    ACK,
    ARP,
    ETHERNET,
    ETHERTYPE_ARP,
    ETHERTYPE_IPV4,
    FIN,
    PSH,
    RST,
    SYN,
    Segment,
    build_arp_reply,
    build_ethernet,
    build_ipv4,
    build_tcp,
)
from pyrovm.mmds.listener import MAX_CONNECTIONS, MAX_PENDING_RESETS
from pyrovm.mmds.stack import MAC
from pyrovm.mmds.tcp import RECEIVE_BUFFER
from tests.unit.mmds.guest import GUEST_IP, GUEST_MAC, MMDS_IP, Client, Guest, get, mmds_config

BROADCAST = b"\xff" * 6


def arp_request(target=MMDS_IP, mac=GUEST_MAC, ip=GUEST_IP, operation=1):
    packet = ARP.pack(1, 0x800, 6, 4, operation, mac, ip, bytes(6), target)
    return build_ethernet(BROADCAST, mac, ETHERTYPE_ARP, packet)


def ipv4_frame(protocol=6, payload=b"", to=MMDS_IP):
    return build_ethernet(
        MAC, GUEST_MAC, ETHERTYPE_IPV4, build_ipv4(GUEST_IP, to, protocol, payload)
    )


def counts(guest):
    """The counters that are not 0."""
    return {
        name: value for name in MmdsCounters.__slots__ if (value := getattr(guest.counters, name))
    }


def test_the_counters_are_the_mmds_metrics():
    names = (
        "rx_accepted rx_accepted_err rx_accepted_unusual rx_bad_eth rx_count rx_invalid_token "
        "rx_no_token tx_bytes tx_count tx_errors tx_frames connections_created "
        "connections_destroyed"
    )
    assert sorted(MmdsCounters.__slots__) == sorted(names.split())


def test_the_stack_has_its_addresses():
    stack = Guest(mmds_config(ipv4_address="169.254.7.9")).stack
    assert stack.ipv4_address == "169.254.7.9"
    assert stack.mac == bytes((6, 1, 0x23, 0x45, 0x67, 1))


@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_an_arp_request_for_the_service_is_answered(kind):
    guest = Guest()
    assert guest.stack.detour(kind(arp_request()))
    assert guest.stack.has_frames
    assert guest.stack.next_timeout() is None
    assert guest.stack.next_frame() == build_ethernet(
        GUEST_MAC, MAC, ETHERTYPE_ARP, build_arp_reply(MAC, MMDS_IP, GUEST_MAC, GUEST_IP)
    )
    assert not guest.stack.has_frames
    assert guest.stack.next_frame() is None
    assert counts(guest) == {"rx_accepted": 1, "tx_count": 1, "tx_frames": 1, "tx_bytes": 42}


def test_of_many_arp_requests_the_last_one_is_answered():
    guest = Guest()
    for last in range(50):
        assert guest.stack.detour(arp_request(ip=bytes((172, 16, 0, last))))
    assert guest.stack.next_frame()[-4:] == bytes((172, 16, 0, 49))
    assert not guest.stack.has_frames


@pytest.mark.parametrize(
    "frame",
    [
        arp_request(target=bytes((169, 254, 169, 253))),
        arp_request(operation=2),
        arp_request()[:-1],
        ipv4_frame(to=bytes((169, 254, 169, 253))),
        ipv4_frame()[:33],
        build_ethernet(BROADCAST, GUEST_MAC, 0x86DD, MMDS_IP * 20),
        build_ethernet(BROADCAST, GUEST_MAC, ETHERTYPE_IPV4, b""),
    ],
)
def test_other_frames_are_left_to_the_network(frame):
    guest = Guest()
    assert not guest.stack.detour(frame)
    assert not guest.stack.has_frames
    assert counts(guest) == {}


@pytest.mark.parametrize("size", [0, 13])
def test_what_is_too_short_for_a_frame_is_counted(size):
    guest = Guest()
    assert not guest.stack.detour(bytes(size))
    assert counts(guest) == {"rx_bad_eth": 1}


def test_another_address_may_be_configured():
    guest = Guest(mmds_config(ipv4_address="169.254.1.1"))
    assert not guest.stack.detour(arp_request())
    assert guest.stack.detour(arp_request(target=bytes((169, 254, 1, 1))))


@pytest.mark.parametrize("protocol", [1, 17])
def test_packets_other_than_tcp_are_swallowed(protocol):
    guest = Guest()
    assert guest.stack.detour(ipv4_frame(protocol, b"payload"))
    assert not guest.stack.has_frames
    assert counts(guest) == {"rx_accepted": 1, "rx_accepted_unusual": 1}


def broken(offset, value):
    segment = build_tcp(Segment(1, 80, 1, 0, SYN, 1000), GUEST_IP, MMDS_IP)
    frame = bytearray(ipv4_frame(6, segment))
    frame[offset] = value
    return bytes(frame)


@pytest.mark.parametrize(
    "frame",
    [
        broken(ETHERNET.size, 0x65),
        broken(ETHERNET.size, 0x4F),
        broken(ETHERNET.size + 2, 0xFF),
        broken(ETHERNET.size + 6, 0x20),
        broken(ETHERNET.size + 20 + 12, 0x40),
        ipv4_frame(6, b"short"),
    ],
)
def test_nonsense_for_the_service_does_not_reach_the_network_either(frame):
    guest = Guest()
    assert guest.stack.detour(frame)
    assert not guest.stack.has_frames
    assert counts(guest) == {"rx_accepted": 1, "rx_accepted_err": 1}


def test_checksums_of_an_offloading_guest_do_not_matter():
    guest = Guest()
    segment = bytearray(build_tcp(Segment(1, 80, 1, 0, SYN, 1000), GUEST_IP, MMDS_IP))
    segment[16:18] = b"\x12\x34"
    assert guest.stack.detour(ipv4_frame(6, bytes(segment)))
    assert len(guest.receive()) == 1


def test_a_conversation_is_counted():
    guest = Guest()
    client = Client(guest)
    client.request(get("/latest"))
    client.fin()
    client.exchange()
    found = counts(guest)
    assert found.pop("tx_bytes") > 3 * 54
    assert found == {
        "rx_accepted": 6,  # SYN, ACK, request, ACK, FIN, ACK
        "rx_count": 6,
        "rx_no_token": 1,
        "tx_count": 3,  # SYN, response, FIN
        "tx_frames": 3,
        "connections_created": 1,
        "connections_destroyed": 1,
    }


def test_an_arp_reply_goes_before_everything_else():
    guest = Guest()
    guest.transmit(Segment(1, 81, 1, 0, SYN, 1000))
    guest.stack.detour(arp_request())
    assert guest.stack.next_frame()[12:14] == b"\x08\x06"
    assert guest.stack.next_frame()[12:14] == b"\x08\x00"


def test_live_memory_that_changes_under_the_copy_is_not_trusted():
    guest = Guest()

    class Changing(bytearray):
        """Looks like a frame for the service until it is copied."""

        def __bytes__(self):
            return bytes(14) + bytearray(self)[14:]

    assert not guest.stack.detour(Changing(ipv4_frame()))
    assert counts(guest) == {}


@given(st.binary(max_size=200))
def test_arbitrary_bytes_as_frames_never_raise(data):
    guest = Guest()
    assert isinstance(guest.stack.detour(data), bool)
    assert guest.stack.has_frames in (True, False)
    guest.stack.next_frame()


PAYLOADS = st.sampled_from(
    [b"", b"G", get("/"), get("/latest")[:-1], b"\n\n", b"x" * 3000, get("/") * 9]
) | st.binary(max_size=50)
SEGMENTS = st.builds(
    Segment,
    st.integers(1, 40),
    st.sampled_from([80, 80, 80, 81]),
    st.integers(0, 5) | st.integers(0, 0xFFFF_FFFF),
    st.integers(0, 5) | st.integers(0, 0xFFFF_FFFF),
    st.sampled_from([SYN, SYN, ACK, ACK | PSH, FIN | ACK, RST, SYN | FIN, 0]),
    st.sampled_from([0, 1, 1000, 65_535]),
    PAYLOADS,
    st.none() | st.integers(0, 0xFFFF),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(SEGMENTS, max_size=60), st.data())
def test_memory_and_work_stay_bounded_whatever_segments_come(segments, data):
    guest = Guest()
    listener = guest.stack._listener
    answers = {}
    for segment in segments:
        # Half of them continue a conversation: the numbers that the service expects.
        if segment.source_port in answers and data.draw(st.booleans()):
            last = answers[segment.source_port]
            segment.seq, segment.ack = last.ack, (last.seq + last.length) & 0xFFFF_FFFF
        assert guest.transmit(segment)
        guest.clock.now_ms += data.draw(st.sampled_from([0, 0, 1, 300, 12_000]))
        if data.draw(st.booleans()):
            for answer in guest.receive():
                answers[answer.destination_port] = answer
        assert len(listener) <= MAX_CONNECTIONS
        assert len(listener._resets) <= MAX_PENDING_RESETS
        for _, connection in listener._connections.values():
            assert len(connection.received) <= RECEIVE_BUFFER
    created, destroyed = guest.counters.connections_created, guest.counters.connections_destroyed
    assert created - destroyed == len(listener)
