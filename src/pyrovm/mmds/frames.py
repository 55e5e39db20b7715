"""Ethernet, ARP, IPv4 and TCP, read from bytes and written to bytes: pure functions.

As much of each as the metadata service needs (RFC 826, 791, 9293): requests for one address,
whole datagrams, one TCP option.  Every length in a header is checked against what is there.

Checksums of incoming datagrams are not verified.  A guest that offloads them (virtio 1.2, 5.1.6.2)
sends a TCP checksum that covers the pseudo header only, and the frame came through memory, not
over a wire.  Outgoing checksums are right: the guest may verify them.
"""

from __future__ import annotations

from struct import Struct

from pyrovm.errors import GuestError

ETHERNET = Struct("!6s6sH")  # destination, source, type
ARP = Struct("!HHBBH6s4s6s4s")  # hardware, protocol, their lengths, operation, sender, target
IPV4 = Struct("!BBHHHBBH4s4s")
TCP = Struct("!HHIIBBHHH")

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_ARP = 0x0806
ARP_ETHERNET = 1
ARP_REQUEST, ARP_REPLY = 1, 2

IPV4_TOTAL_MAX = 0xFFFF
IPV4_DONT_FRAGMENT = 0x4000
IPV4_FRAGMENT_MASK = 0x3FFF  # "more fragments" and the offset
IPPROTO_TCP = 6
TTL = 64

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10

TCPOPT_END, TCPOPT_NOP, TCPOPT_MSS = 0, 1, 2

HEADERS_SIZE = ETHERNET.size + IPV4.size + TCP.size  # in front of a payload that we send


class FrameError(GuestError):
    """A frame, packet or segment whose headers do not fit its bytes."""


class Arp:
    """A request: who (``sender_mac``, ``sender_ip``) asks for ``target_ip``."""

    __slots__ = ("sender_ip", "sender_mac", "target_ip")

    def __init__(self, sender_mac: bytes, sender_ip: bytes, target_ip: bytes) -> None:
        self.sender_mac = sender_mac
        self.sender_ip = sender_ip
        self.target_ip = target_ip


class Ipv4:
    """One whole datagram."""

    __slots__ = ("destination", "payload", "protocol", "source")

    def __init__(self, source: bytes, destination: bytes, protocol: int, payload: bytes) -> None:
        self.source = source
        self.destination = destination
        self.protocol = protocol
        self.payload = payload


class Segment:
    """One TCP segment; ``mss`` is the option's value, None where there is none."""

    __slots__ = (
        "ack",
        "destination_port",
        "flags",
        "mss",
        "payload",
        "seq",
        "source_port",
        "window",
    )

    def __init__(
        self,
        source_port: int,
        destination_port: int,
        seq: int,
        ack: int,
        flags: int,
        window: int,
        payload: bytes = b"",
        mss: int | None = None,
    ) -> None:
        self.source_port = source_port
        self.destination_port = destination_port
        self.seq = seq
        self.ack = ack
        self.flags = flags
        self.window = window
        self.payload = payload
        self.mss = mss

    @property
    def length(self) -> int:
        """How much of the sequence space the segment takes."""
        return len(self.payload) + bool(self.flags & SYN) + bool(self.flags & FIN)

    def __repr__(self) -> str:
        names = ((SYN, "S"), (FIN, "F"), (RST, "R"), (PSH, "P"), (ACK, "."))
        flags = "".join(name for bit, name in names if self.flags & bit)
        return (
            f"Segment({self.source_port}>{self.destination_port} [{flags}] seq={self.seq} "
            f"ack={self.ack} win={self.window} len={len(self.payload)} mss={self.mss})"
        )


def parse_ethernet(frame: bytes) -> tuple[bytes, int, bytes]:
    """The sender's MAC, the type and the payload of an Ethernet II frame.

    Raises:
        FrameError: shorter than a header.
    """
    if len(frame) < ETHERNET.size:
        raise FrameError(f"a frame of {len(frame)} bytes, a header has {ETHERNET.size}")
    _, source, ethertype = ETHERNET.unpack_from(frame)
    return source, ethertype, frame[ETHERNET.size :]


def parse_arp_request(packet: bytes) -> Arp:
    """An ARP request for IPv4 over Ethernet (RFC 826).

    Raises:
        FrameError: too short, or another protocol, or no request.
    """
    if len(packet) < ARP.size:
        raise FrameError(f"an ARP packet of {len(packet)} bytes, it needs {ARP.size}")
    hardware, protocol, mac_size, ip_size, operation, sender_mac, sender_ip, _, target_ip = (
        ARP.unpack_from(packet)
    )
    if (hardware, protocol, mac_size, ip_size) != (ARP_ETHERNET, ETHERTYPE_IPV4, 6, 4):
        raise FrameError(f"ARP for hardware {hardware}, protocol {protocol:#x}: not IPv4 over MAC")
    if operation != ARP_REQUEST:
        raise FrameError(f"ARP operation {operation} is no request")
    return Arp(sender_mac, sender_ip, target_ip)


def parse_ipv4(packet: bytes) -> Ipv4:
    """An IPv4 datagram without its header, options and padding (RFC 791).

    Raises:
        FrameError: another version, a fragment, or lengths beyond the packet.
    """
    if len(packet) < IPV4.size:
        raise FrameError(f"an IPv4 packet of {len(packet)} bytes, a header has {IPV4.size}")
    version_ihl, _, total, _, fragment, _, protocol, _, source, destination = IPV4.unpack_from(
        packet
    )
    header = (version_ihl & 0xF) * 4
    if version_ihl >> 4 != 4:
        raise FrameError(f"IP version {version_ihl >> 4} in an IPv4 frame")
    if not IPV4.size <= header <= total <= len(packet):
        raise FrameError(
            f"IPv4 header of {header} bytes and total length of {total} in a packet of "
            f"{len(packet)}"
        )
    if fragment & IPV4_FRAGMENT_MASK:
        raise FrameError("a fragment of an IPv4 packet")
    return Ipv4(source, destination, protocol, packet[header:total])


def parse_tcp(segment: bytes) -> Segment:
    """A TCP segment (RFC 9293, 3.1).

    Raises:
        FrameError: the header or one of its options does not fit.
    """
    if len(segment) < TCP.size:
        raise FrameError(f"a TCP segment of {len(segment)} bytes, a header has {TCP.size}")
    source, destination, seq, ack, offset, flags, window, _, _ = TCP.unpack_from(segment)
    header = (offset >> 4) * 4
    if not TCP.size <= header <= len(segment):
        raise FrameError(f"a TCP header of {header} bytes in a segment of {len(segment)}")
    mss = _find_mss(segment[TCP.size : header])
    return Segment(source, destination, seq, ack, flags, window, segment[header:], mss)


def _find_mss(options: bytes) -> int | None:
    """The maximum segment size among the options (RFC 9293, 3.2); at most 40 bytes are walked."""
    at = 0
    while at < len(options):
        kind = options[at]
        if kind == TCPOPT_END:
            break
        if kind == TCPOPT_NOP:
            at += 1
            continue
        size = options[at + 1] if at + 1 < len(options) else 0
        if size < 2 or at + size > len(options):
            raise FrameError(f"TCP option {kind} has {size} bytes of {len(options) - at}")
        if kind == TCPOPT_MSS:
            if size != 4:
                raise FrameError(f"the TCP option MSS has {size} bytes, not 4")
            return int.from_bytes(options[at + 2 : at + 4], "big")
        at += size
    return None


def build_ethernet(destination: bytes, source: bytes, ethertype: int, payload: bytes) -> bytes:
    """An Ethernet II frame; it is not padded to 60 bytes, virtio has no wire."""
    return ETHERNET.pack(destination, source, ethertype) + payload


def build_arp_reply(mac: bytes, ip: bytes, target_mac: bytes, target_ip: bytes) -> bytes:
    """``ip`` is at ``mac``, said to the one that asked."""
    return ARP.pack(ARP_ETHERNET, ETHERTYPE_IPV4, 6, 4, ARP_REPLY, mac, ip, target_mac, target_ip)


def build_ipv4(source: bytes, destination: bytes, protocol: int, payload: bytes) -> bytes:
    """An IPv4 datagram that must not be fragmented.

    Raises:
        ValueError: more payload than a datagram holds.
    """
    total = IPV4.size + len(payload)
    if total > IPV4_TOTAL_MAX:
        raise ValueError(f"an IPv4 packet of {total} bytes, {IPV4_TOTAL_MAX} fit")
    fields = (0x45, 0, total, 0, IPV4_DONT_FRAGMENT, TTL, protocol)
    header = IPV4.pack(*fields, 0, source, destination)
    return IPV4.pack(*fields, checksum(header), source, destination) + payload


def build_tcp(segment: Segment, source: bytes, destination: bytes) -> bytes:
    """``segment`` as it travels from address ``source`` to ``destination``."""
    options = (
        b"" if segment.mss is None else bytes((TCPOPT_MSS, 4)) + segment.mss.to_bytes(2, "big")
    )
    size = TCP.size + len(options)
    fields = (
        segment.source_port,
        segment.destination_port,
        segment.seq,
        segment.ack,
        size << 2,  # in words, in the upper half of the byte
        segment.flags,
        segment.window,
    )
    rest = options + segment.payload
    unchecked = TCP.pack(*fields, 0, 0) + rest
    pseudo = source + destination + Struct("!HH").pack(IPPROTO_TCP, len(unchecked))
    return TCP.pack(*fields, checksum(pseudo + unchecked), 0) + rest


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of ``data``, any length."""
    if len(data) & 1:
        data += b"\0"
    # The ones' complement sum of 16-bit words is the number that they spell, modulo 65535.
    total = int.from_bytes(data, "big")
    folded = total % 0xFFFF
    # Ones' complement has two zeros: a sum of words that are not all 0 folds to 65535, never to 0.
    return 0 if total and not folded else folded ^ 0xFFFF
