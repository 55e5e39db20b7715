"""The network stack of the metadata service, inside one network device.

The device shows every frame of the guest to :meth:`MmdsStack.detour` before it would go to the
tap, and asks :meth:`MmdsStack.next_frame` before it reads the tap::

    guest --TX--> detour --not for us--> tap            ARP, IPv4  frames
                    |                                   TCP        listener, tcp
                  next_frame --RX--> guest              HTTP       http, service
"""

from __future__ import annotations

from pyrovm.mmds.counters import MmdsCounters
from pyrovm.mmds.frames import (
    ETHERNET,
    ETHERTYPE_ARP,
    ETHERTYPE_IPV4,
    IPPROTO_TCP,
    FrameError,
    build_arp_reply,
    build_ethernet,
    build_ipv4,
    build_tcp,
    parse_arp_request,
    parse_ethernet,
    parse_ipv4,
    parse_tcp,
)
from pyrovm.mmds.http import request_end
from pyrovm.mmds.listener import Listener
from pyrovm.mmds.service import MetadataService

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.config.mmds import MmdsConfig
    from pyrovm.mmds.store import DataStore
    from pyrovm.mmds.token import TokenAuthority

MAC = bytes.fromhex("060123456701")

ARP_BYTES = ETHERTYPE_ARP.to_bytes(2, "big")
IPV4_BYTES = ETHERTYPE_IPV4.to_bytes(2, "big")

# Where in a frame the address stands that it is for.
ARP_TARGET = ETHERNET.size + 24
IPV4_DESTINATION = ETHERNET.size + 16


class MmdsStack:
    """``now_ms()`` is the clock, ``counters`` what all stacks of a VM count into.

    Bounded whatever the guest sends: see :mod:`pyrovm.mmds.listener`; of ARP requests only the
    last one is answered.
    """

    def __init__(
        self,
        store: DataStore,
        config: MmdsConfig,
        tokens: TokenAuthority,
        now_ms: Callable[[], int],
        counters: MmdsCounters | None = None,
    ) -> None:
        self.mac = MAC
        self.ipv4_address = config.ipv4_address
        self.counters = MmdsCounters() if counters is None else counters
        self._ip = bytes(map(int, config.ipv4_address.split(".")))
        self._now_ms = now_ms
        service = MetadataService(store, config, tokens, self.counters)
        self._listener = Listener(request_end, service.respond, self.counters)
        self._arp_reply: bytes | None = None

    def wants(self, head: bytes | memoryview) -> bool:
        """Whether a frame that begins with ``head`` (42 bytes decide) looks like one for us.

        hot: per frame
        """
        ethertype = head[12:14]
        if ethertype == IPV4_BYTES:
            return head[IPV4_DESTINATION : IPV4_DESTINATION + 4] == self._ip
        if ethertype == ARP_BYTES:
            return head[ARP_TARGET : ARP_TARGET + 4] == self._ip
        if len(ethertype) < 2:
            self.counters.rx_bad_eth += 1
        return False

    def detour(self, frame: bytes | memoryview) -> bool:
        """Whether ``frame`` was for the service; then it is dealt with.

        ``frame`` may be live guest memory: it is copied once, and the copy decides.
        """
        if not self.wants(frame):
            return False
        copy = bytes(frame)
        source, ethertype, packet = parse_ethernet(copy)
        taken = False
        if ethertype == ETHERTYPE_ARP:
            taken = self._take_arp(packet)
        elif ethertype == ETHERTYPE_IPV4:
            taken = self._take_ipv4(source, packet)
        if taken:
            self.counters.rx_accepted += 1
        return taken

    def _take_arp(self, packet: bytes) -> bool:
        try:
            request = parse_arp_request(packet)
        except FrameError:
            return False  # no request: others may want to hear it
        if request.target_ip != self._ip:
            return False
        self._arp_reply = build_ethernet(
            request.sender_mac,
            MAC,
            ETHERTYPE_ARP,
            build_arp_reply(MAC, self._ip, request.sender_mac, request.sender_ip),
        )
        return True

    def _take_ipv4(self, mac: bytes, packet: bytes) -> bool:
        """Consume whatever is addressed to us, sense or nonsense: the host's network may have a
        metadata service of its own at this address, and the guest shall not reach that.
        """
        if packet[IPV4_DESTINATION - ETHERNET.size :][:4] != self._ip:
            return False
        try:
            datagram = parse_ipv4(packet)
            if datagram.protocol != IPPROTO_TCP:
                self.counters.rx_accepted_unusual += 1
                return True
            segment = parse_tcp(datagram.payload)
        except FrameError:
            self.counters.rx_accepted_err += 1
            return True
        self._listener.receive(mac, datagram.source, segment, self._now_ms())
        return True

    @property
    def has_frames(self) -> bool:
        """Whether :meth:`next_frame` has something for the guest now."""
        return self._arp_reply is not None or self._listener.has_segments(self._now_ms())

    def next_frame(self) -> bytes | None:
        """The next frame for the guest, of at most 1514 bytes, or None."""
        frame = self._next_frame()
        if frame is not None:
            counters = self.counters
            counters.tx_count += 1
            counters.tx_frames += 1
            counters.tx_bytes += len(frame)
        return frame

    def _next_frame(self) -> bytes | None:
        if self._arp_reply is not None:
            frame, self._arp_reply = self._arp_reply, None
            return frame
        found = self._listener.next_segment(self._now_ms())
        if found is None:
            return None
        peer, segment = found
        datagram = build_ipv4(self._ip, peer.ip, IPPROTO_TCP, build_tcp(segment, self._ip, peer.ip))
        return build_ethernet(peer.mac, MAC, ETHERTYPE_IPV4, datagram)

    def next_timeout(self) -> float | None:
        """Seconds until a frame may have to be repeated: look at :attr:`has_frames` then.

        None if nothing but the guest can give us something to send.
        """
        deadline_ms = self._listener.deadline_ms()
        if deadline_ms is None:
            return None
        return max(0, deadline_ms - self._now_ms()) / 1000
