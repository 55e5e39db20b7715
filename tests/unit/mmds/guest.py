"""A guest in front of an MmdsStack: its clock, its network interface, and a small TCP client.

The client's receiving side keeps what arrives in order, acknowledges it when told to, and checks
every checksum; its sending side sends what a test says, sensible or not.
"""

from __future__ import annotations

from pyrovm.config.mmds import MmdsConfig
from pyrovm.mmds.counters import MmdsCounters
from pyrovm.mmds.frames import (
    ACK,
    ETHERNET,
    ETHERTYPE_IPV4,
    FIN,
    IPPROTO_TCP,
    IPV4,
    RST,
    SYN,
    Segment,
    build_ethernet,
    build_ipv4,
    build_tcp,
    checksum,
    parse_ipv4,
    parse_tcp,
)
from pyrovm.mmds.stack import MAC, MmdsStack
from pyrovm.mmds.store import DataStore
from pyrovm.mmds.tcp import SEQ_MASK, distance
from pyrovm.mmds.token import TokenAuthority

GUEST_MAC = bytes.fromhex("0600ac100002")
GUEST_IP = bytes((172, 16, 0, 2))
MMDS_IP = bytes((169, 254, 169, 254))

STORE = {
    "latest": {
        "meta-data": {
            "ami-id": "ami-12345678",
            "local-hostname": "ip-10-251-50-12.ec2.internal",
            "dummy_obj": {"res_key": "res_value"},
            "dummy_array": ["arr_val1", "arr_val2"],
            "dummy_empty": "",
        },
        "Limits": {"CPU": 512},
        "Usage": {"CPU": 12.12},
        "a/b": {"c~d": "tricky"},
    }
}


def mmds_config(version="V1", ipv4_address="169.254.169.254", imds_compat=False):
    """What /mmds/config says."""
    return MmdsConfig(
        network_interfaces=["eth0"],
        version=version,
        ipv4_address=ipv4_address,
        imds_compat=imds_compat,
    )


class Clock:
    """Milliseconds that pass when a test says so."""

    def __init__(self, now_ms=1_000_000):
        self.now_ms = now_ms

    def __call__(self):
        return self.now_ms


def counting_bytes():
    """A source of "random" bytes that never gives the same ones twice."""
    state = [0]

    def random_bytes(size):
        state[0] += 1
        return state[0].to_bytes(size, "little")

    return random_bytes


class Guest:
    """A stack and what surrounds it."""

    def __init__(self, config=None, value=STORE, clock=None, limit_bytes=51_200):
        self.clock = clock or Clock()
        self.store = DataStore(limit_bytes)
        if value is not None:
            self.store.put(value)
        self.tokens = TokenAuthority("vm-1", counting_bytes(), self.clock)
        self.counters = MmdsCounters()
        self.stack = MmdsStack(
            self.store, config or mmds_config(), self.tokens, self.clock, self.counters
        )

    def transmit(self, segment, *, ip=GUEST_IP, mac=GUEST_MAC, to=MMDS_IP):
        """Send one segment; whether the stack took it."""
        datagram = build_ipv4(ip, to, IPPROTO_TCP, build_tcp(segment, ip, to))
        return self.stack.detour(build_ethernet(MAC, mac, ETHERTYPE_IPV4, datagram))

    def receive(self):
        """All segments that the stack has for us now, their frames checked."""
        found = []
        while self.stack.has_frames:
            frame = self.stack.next_frame()
            assert frame is not None, "has_frames promised one"
            found.append(check_frame(frame))
            assert len(found) < 1000
        assert self.stack.next_frame() is None
        return found


def check_frame(frame, ip=GUEST_IP, mac=GUEST_MAC):
    """The segment in a frame from the service; every header and checksum is verified."""
    assert len(frame) <= 1514
    assert ETHERNET.unpack_from(frame) == (mac, MAC, ETHERTYPE_IPV4)
    packet = frame[ETHERNET.size :]
    assert checksum(packet[: IPV4.size]) == 0
    datagram = parse_ipv4(packet)
    assert (datagram.source, datagram.destination) == (MMDS_IP, ip)
    assert datagram.protocol == IPPROTO_TCP
    pseudo = MMDS_IP + ip + b"\0\x06" + len(datagram.payload).to_bytes(2, "big")
    assert checksum(pseudo + datagram.payload) == 0
    return parse_tcp(datagram.payload)


class Client:
    """One TCP connection of the guest."""

    def __init__(self, guest, port=40_000, *, seq=1000, window=65_535, mss=1460, connect=True):
        self.guest, self.port, self.window, self.mss = guest, port, window, mss
        self.seq = seq  # of the next byte to send
        self.expected = 0  # the next byte to receive
        self.acked = 0  # what the service has acknowledged of ours
        self.peer_window = 0
        self.data = b""
        self.fin_received = False
        self.reset = False
        self.log = []
        if connect:
            self.connect()

    def transmit(self, flags, payload=b"", *, seq=None, ack=None, mss=None, window=None):
        at = self.seq if seq is None else seq
        acked = self.expected if ack is None else ack
        size = self.window if window is None else window
        segment = Segment(self.port, 80, at & SEQ_MASK, acked & SEQ_MASK, flags, size, payload, mss)
        return self.guest.transmit(segment)

    def connect(self):
        assert self.transmit(SYN, mss=self.mss)
        (answer,) = self.poll()
        assert answer.flags == SYN | ACK
        assert answer.mss == 1460
        assert answer.ack == (self.seq + 1) & SEQ_MASK
        self.seq = (self.seq + 1) & SEQ_MASK
        self.expected = (answer.seq + 1) & SEQ_MASK
        self.transmit(ACK)

    def send(self, data, size=1400):
        """Send ``data`` in segments of ``size`` bytes."""
        for at in range(0, len(data), size):
            piece = data[at : at + size]
            self.transmit(ACK, piece)
            self.seq = (self.seq + len(piece)) & SEQ_MASK

    def fin(self):
        self.transmit(FIN | ACK)
        self.seq = (self.seq + 1) & SEQ_MASK

    def poll(self):
        """Take the segments that have come for this connection; keeps data that is in order."""
        segments = [s for s in self.guest.receive() if s.destination_port == self.port]
        for segment in segments:
            self.log.append(segment)
            if segment.flags & RST:
                self.reset = True
                continue
            if segment.flags & ACK:
                self.acked = segment.ack
                self.peer_window = segment.window
            if segment.flags & SYN or distance(segment.seq, self.expected) != 0:
                continue
            self.data += segment.payload
            self.expected = (self.expected + segment.length) & SEQ_MASK
            self.fin_received |= bool(segment.flags & FIN)
        return segments

    def exchange(self, rounds=200):
        """Poll and acknowledge until nothing comes any more; what was received in all."""
        for _ in range(rounds):
            segments = self.poll()
            if not any(s.length for s in segments):
                break
            self.transmit(ACK)
        return self.data

    def request(self, data, size=1400):
        """Send a request, return the response."""
        before = len(self.data)
        self.send(data, size)
        return self.exchange()[before:]


def get(path, *headers):
    """The bytes of a GET request."""
    return "\r\n".join([f"GET {path} HTTP/1.1", *headers, "\r\n"]).encode()


def put(path, *headers):
    """The bytes of a PUT request."""
    return "\r\n".join([f"PUT {path} HTTP/1.1", *headers, "\r\n"]).encode()


def split_response(response):
    """Status, headers (names in lower case) and body of one response."""
    head, _, body = response.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(": ")
        headers[name.lower()] = value
    version, status, reason = first.split(" ")
    assert version in ("HTTP/1.0", "HTTP/1.1")
    assert reason == ""
    assert int(headers["content-length"]) == len(body)
    return int(status), headers, body.decode()
