"""The metadata service's network stack: frames of a guest, raw or nearly right."""

from __future__ import annotations

from fuzz.source import Source
from fuzz.targets._mmds import Conversation
from pyrovm.mmds.frames import (
    ACK,
    FIN,
    IPV4,
    PSH,
    RST,
    SYN,
    Segment,
    build_arp_reply,
    build_ethernet,
    build_ipv4,
    build_tcp,
    checksum,
    parse_ethernet,
    parse_ipv4,
    parse_tcp,
)
from pyrovm.mmds.listener import MAX_CONNECTIONS, MAX_PENDING_RESETS
from pyrovm.mmds.stack import MAC, MmdsStack
from pyrovm.mmds.tcp import MSS, RECEIVE_BUFFER, SEQ_MASK

MMDS_IP = bytes((169, 254, 169, 254))
GUEST_MAC, GUEST_IP = b"\6\0\0\0\0\2", bytes((172, 16, 0, 2))
MAX_FRAMES = MAX_CONNECTIONS * (RECEIVE_BUFFER + 2) + MAX_PENDING_RESETS + 1

FLAGS = (SYN, ACK, ACK | PSH, ACK | FIN, RST, RST | ACK, SYN | ACK, 0, SYN | FIN, 0xFF)
PAYLOADS = (
    b"",
    b"GET /latest/meta-data/ami-id HTTP/1.1\r\n\r\n",
    b"GET /latest/meta-data/large HTTP/1.1\r\n\r\n",
    b"GET / HT",
    b"TP/1.1\r\nAccept: application/json\r\n\r\n",
    b"x" * RECEIVE_BUFFER,
    b"\r\n\r\n",
)


def one_input(data: bytes) -> None:
    """Whatever is sent, memory stays bounded, and what is answered is well formed."""
    source = Source(data)
    options = source.u8()
    conversation = Conversation("V2" if options & 1 else "V1", imds_compat=bool(options & 2))
    stack = conversation.stack
    answers: dict[int, Segment] = {}
    taken = 0
    while source.left:
        kind = source.u8()
        if kind < 0x20:
            taken += stack.detour(source.blob(1600))
        elif kind < 0x30:
            head = source.take(source.u8())
            taken += stack.detour(build_ethernet(MAC, GUEST_MAC, 0x0806, head))
        elif kind < 0x50:
            damaged = bytearray(_segment_packet(source, answers))
            for _ in range(kind & 3):
                damaged[source.below(len(damaged))] = source.u8()
            taken += stack.detour(build_ethernet(MAC, GUEST_MAC, 0x0800, bytes(damaged)))
        elif kind < 0x58:
            first = source.u8()
            for port in range(first, first + source.u8()):
                segment = Segment(1000 + port, 80 + (kind & 1), 5, 0, SYN, 1000)
                packet = build_ipv4(GUEST_IP, MMDS_IP, 6, build_tcp(segment, GUEST_IP, MMDS_IP))
                taken += stack.detour(build_ethernet(MAC, GUEST_MAC, 0x0800, packet))
        elif kind < 0x60:
            conversation.now_ms += source.edge() % 100_000
        elif kind < 0xA0:
            _collect(stack, answers)
        else:
            packet = _segment_packet(source, answers)
            assert stack.detour(build_ethernet(MAC, GUEST_MAC, 0x0800, packet))
            taken += 1
        _check_bounds(stack)
    _collect(stack, answers)
    counters = conversation.counters
    assert counters.rx_accepted == taken
    created, destroyed = counters.connections_created, counters.connections_destroyed
    assert created - destroyed == len(stack._listener)


def _segment_packet(source: Source, answers: dict[int, Segment]) -> bytes:
    """A segment, with a bit of luck one that continues a conversation."""
    port = source.below(40) + 1
    last = answers.get(port)
    seq, ack = 0, 0
    if last is not None:
        seq, ack = last.ack, last.seq + last.length
    nudge = source.u8()
    if nudge & 1:
        seq += source.edge() - 8
    if nudge & 2:
        ack += source.edge() - 8
    segment = Segment(
        port,
        81 if nudge & 4 else 80,
        seq & SEQ_MASK,
        ack & SEQ_MASK,
        source.choice(FLAGS),
        source.edge(16),
        source.blob(80) if nudge & 8 else source.choice(PAYLOADS),
        source.edge(16) if nudge & 16 else None,
    )
    return build_ipv4(GUEST_IP, MMDS_IP, 6, build_tcp(segment, GUEST_IP, MMDS_IP))


def _collect(stack: MmdsStack, answers: dict[int, Segment]) -> None:
    """Take every frame there is, and check it."""
    for _ in range(MAX_FRAMES):
        promised = stack.has_frames
        frame = stack.next_frame()
        assert promised == (frame is not None)
        if frame is None:
            break
        assert len(frame) <= 14 + 20 + 20 + MSS
        source_mac, ethertype, packet = parse_ethernet(frame)
        assert source_mac == MAC
        if ethertype == 0x0806:
            assert packet[:14] == build_arp_reply(MAC, MMDS_IP, bytes(6), bytes(4))[:14]
            continue
        datagram = parse_ipv4(packet)
        assert checksum(packet[: IPV4.size]) == 0
        pseudo = MMDS_IP + datagram.destination + b"\0\6" + len(datagram.payload).to_bytes(2, "big")
        assert checksum(pseudo + datagram.payload) == 0
        segment = parse_tcp(datagram.payload)
        assert segment.window <= RECEIVE_BUFFER
        answers[segment.destination_port] = segment
    else:
        raise AssertionError("one moment brings a bounded number of frames")
    timeout = stack.next_timeout()
    assert timeout is None or 0 < timeout <= 60


def _check_bounds(stack: MmdsStack) -> None:
    listener = stack._listener
    assert len(listener) <= MAX_CONNECTIONS
    assert len(listener._resets) <= MAX_PENDING_RESETS
    for _, connection in listener._connections.values():
        assert len(connection.received) <= RECEIVE_BUFFER


ARP_REQUEST = bytes.fromhex("0001080006040001") + GUEST_MAC + GUEST_IP + bytes(6) + MMDS_IP
# A handshake, a request, its answer, and the end; numbers as _segment_packet reads them.
HANDSHAKE = b"\xff\x01\x00\x00\x30\x00\x60\xff\x01\x00\x01\x30\x00\x60"
SEEDS = [
    b"\x00\x20" + bytes((len(ARP_REQUEST),)) + ARP_REQUEST + b"\x60",
    b"\x00" + HANDSHAKE + b"\xff\x01\x00\x02\x30\x01\x60\xff\x01\x00\x03\x30\x00\x60",
    b"\x01" + HANDSHAKE + b"\xff\x01\x00\x02\x30\x02\x60\x50\x10\x60",
    b"\x02" + HANDSHAKE + b"\xff\x01\x08\x02\x30\x05GET /\x60\xff\x01\x00\x04\x30\x00\x60",
    b"\x00\x00\x00\x06" + b"\xff\x01\x04\x00\x30\x00\x60",
]
