"""Port 80: the connections of one guest, and resets for whatever belongs to none.

Bounded whatever the guest sends: :data:`MAX_CONNECTIONS` connections of one receive buffer and
one response each, and :data:`MAX_PENDING_RESETS` resets.  A connection that has been silent for
:data:`EVICTABLE_MS` makes room for a new one; otherwise a new one is refused.
"""

from __future__ import annotations

from pyrovm.mmds.frames import ACK, FIN, RST, SYN, Segment
from pyrovm.mmds.tcp import RECEIVE_BUFFER, SEQ_MASK, Connection, reset_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.mmds.counters import MmdsCounters

PORT = 80
MAX_CONNECTIONS = 30
MAX_PENDING_RESETS = 100
EVICTABLE_MS = 10_000

# The clock that initial sequence numbers are taken from: RFC 9293, 3.4.1.
SEQ_PER_MS = 250


class Peer:
    """The guest's end of a connection."""

    __slots__ = ("ip", "mac", "port")

    def __init__(self, mac: bytes, ip: bytes, port: int) -> None:
        self.mac = mac
        self.ip = ip
        self.port = port


class Listener:
    """``request_end(buffer)`` is the size of the first whole request in a buffer, 0 if there is
    none; ``respond(request)`` answers it.  Neither raises, whatever the bytes.
    """

    def __init__(
        self,
        request_end: Callable[[bytearray], int],
        respond: Callable[[bytes], bytes],
        counters: MmdsCounters,
    ) -> None:
        self._request_end = request_end
        self._respond = respond
        self._counters = counters
        # In the order in which they are served; a connection that has sent goes to the end.
        self._connections: dict[tuple[bytes, int], tuple[Peer, Connection]] = {}
        self._resets: list[tuple[Peer, Segment]] = []

    def __len__(self) -> int:
        return len(self._connections)

    # ----------------------------------------------------------------------------- segments in

    def receive(self, mac: bytes, ip: bytes, segment: Segment, now_ms: int) -> None:
        """Take in a segment that came from ``mac`` and ``ip``."""
        counters = self._counters
        counters.rx_count += 1
        key = (ip, segment.source_port)
        if segment.destination_port != PORT:
            self._reset(Peer(mac, ip, segment.source_port), segment)
            return
        found = self._connections.get(key)
        if found is None:
            self._open(key, mac, segment, now_ms)
            return
        peer, connection = found
        peer.mac = mac
        if not connection.receive(segment, now_ms):
            counters.rx_accepted_unusual += 1
        self._serve(connection, now_ms)
        if connection.is_done:
            self._forget(key)

    def _open(self, key: tuple[bytes, int], mac: bytes, segment: Segment, now_ms: int) -> None:
        peer = Peer(mac, *key)
        if segment.flags & (SYN | ACK | RST | FIN) != SYN:
            self._reset(peer, segment)
            return
        if len(self._connections) >= MAX_CONNECTIONS and not self._evict(now_ms):
            self._reset(peer, segment)
            return
        connection = Connection(segment, now_ms * SEQ_PER_MS & SEQ_MASK, now_ms)
        self._connections[key] = peer, connection
        self._counters.connections_created += 1

    def _evict(self, now_ms: int) -> bool:
        """Drop the connection that has been silent the longest, if that is long enough."""
        key, (_, connection) = min(
            self._connections.items(), key=lambda item: item[1][1].last_heard_ms
        )
        if now_ms - connection.last_heard_ms < EVICTABLE_MS:
            return False
        self._forget(key)
        return True

    def _forget(self, key: tuple[bytes, int]) -> None:
        del self._connections[key]
        self._counters.connections_destroyed += 1

    def _reset(self, peer: Peer, segment: Segment) -> None:
        self._counters.rx_accepted_unusual += 1
        reset = reset_for(segment)
        if reset is None:
            return
        if len(self._resets) >= MAX_PENDING_RESETS:
            self._counters.tx_errors += 1
            return
        self._resets.append((peer, reset))

    def _serve(self, connection: Connection, now_ms: int) -> None:
        """Answer the next request, one at a time; close after the guest has."""
        if connection.is_done or connection.is_sending:
            return
        size = self._request_end(connection.received)
        if size:
            connection.send(self._respond(connection.take(size)), now_ms)
        elif len(connection.received) >= RECEIVE_BUFFER:
            connection.abort()  # the request will never be whole
        elif connection.fin_received:
            connection.close()

    # ---------------------------------------------------------------------------- segments out

    def has_segments(self, now_ms: int) -> bool:
        """Whether :meth:`next_segment` would return one now."""
        return bool(self._resets) or any(
            connection.has_segments(now_ms) for _, connection in self._connections.values()
        )

    def next_segment(self, now_ms: int) -> tuple[Peer, Segment] | None:
        """The next segment and whom it is for, or None; connections take turns."""
        if self._resets:
            return self._resets.pop(0)
        for key, (peer, connection) in self._connections.items():
            segment = connection.next_segment(now_ms)
            if segment is not None:
                if connection.is_done:
                    self._forget(key)
                else:
                    self._connections[key] = self._connections.pop(key)
                return peer, segment
        return None

    def deadline_ms(self) -> int | None:
        """When something may have to be repeated; None if nothing waits for time to pass."""
        deadlines = [
            deadline
            for _, connection in self._connections.values()
            if (deadline := connection.deadline_ms()) is not None
        ]
        return min(deadlines, default=None)
