"""All connections of one guest: which packet and which socket belongs to which of them.

The muxer gets packets from the guest (:meth:`Muxer.from_guest`) and readiness from the loop.  What
the guest is to be told it only notes; :meth:`Muxer.turn` names the connections that have something
for it, one after the other, so that none starves the others.
"""

from __future__ import annotations

from pyrovm.abi.virtio import (
    VIRTIO_VSOCK_OP_CREDIT_REQUEST,
    VIRTIO_VSOCK_OP_CREDIT_UPDATE,
    VIRTIO_VSOCK_OP_REQUEST,
    VIRTIO_VSOCK_OP_RESPONSE,
    VIRTIO_VSOCK_OP_RST,
    VIRTIO_VSOCK_OP_RW,
    VIRTIO_VSOCK_OP_SHUTDOWN,
    VIRTIO_VSOCK_TYPE_STREAM,
)
from pyrovm.devices.vsock.connection import (
    BOTH,
    EPOLLERR,
    EPOLLHUP,
    Connection,
    ConnectionBroken,
)
from pyrovm.devices.vsock.kill_queue import KillQueue
from pyrovm.devices.vsock.packet import HOST_CID, Header
from pyrovm.errors import HostError
from pyrovm.virtio.device import EPOLLOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable
    from typing import Protocol

    from pyrovm.devices.vsock.connection import Stream
    from pyrovm.devices.vsock.counters import VsockCounters
    from pyrovm.virtio.device import Loop

    class VsockHost(Protocol):
        """Where connections come from and go to on the host."""

        def start(self, loop: Loop, connected: Callable[[Stream, int], None]) -> None:
            """Call ``connected(stream, guest_port)`` for each program that asks for the guest."""

        def stop(self) -> None:
            """Let programs wait until the next :meth:`start`."""

        def connect(self, port: int) -> Stream | None:
            """Reach the program that listens for the guest at ``port``; None if it is busy.

            Raises:
                HostError: nobody listens there.
            """

        def close(self) -> None:
            """Release what programs connect to."""
else:
    from _collections import deque  # collections itself costs a millisecond of start-up

MAX_CONNECTIONS = 1023
MAX_RESETS = 1024  # that wait for buffers of the guest; more are not worth telling
FIRST_HOST_PORT, LAST_HOST_PORT = 1 << 30, (1 << 31) - 1
RETRY = 0.01  # seconds between two attempts to reach a busy program on the host


class Muxer:
    """The connections of the guest ``guest_cid``; ``wake`` is called when one has work.

    It lives from a driver's arrival to its departure; ``next_port`` goes on from an earlier life.
    """

    def __init__(
        self,
        guest_cid: int,
        host: VsockHost,
        loop: Loop,
        counters: VsockCounters,
        wake: Callable[[], None],
        next_port: int = FIRST_HOST_PORT,
    ) -> None:
        self.guest_cid = guest_cid
        self.next_port = next_port
        self.connections: dict[tuple[int, int], Connection] = {}
        self.resets: deque[bytes] = deque()  # RST packets for peers that have no connection
        self._host = host
        self._loop = loop
        self._counters = counters
        self._wake = wake
        self._turns: deque[Connection] = deque()
        self._queued: list[Connection] = []  # since the last settle()
        self._host_ports: set[int] = set()
        self._busy: set[tuple[int, int]] = set()  # the host's program had no room yet
        self._dying = KillQueue(loop, self._expired)
        self._retry = loop.timer(self._connect_busy)
        host.start(loop, self._connected)

    def close(self) -> None:
        """End every connection, and accept no new ones."""
        self._host.stop()
        self.drop_all()

    def drop_all(self) -> None:
        """End every connection without a word to the guest: it knows, or is gone."""
        for connection in list(self.connections.values()):
            self._remove(connection)
        self.resets.clear()
        self._dying.clear()
        self._retry.disarm()

    # ------------------------------------------------------------ from the guest

    def from_guest(self, header: Header, views: list[memoryview]) -> None:
        """Take a packet.  hot: per packet."""
        counters = self._counters
        counters.tx_packets_count += 1
        if header.src_cid != self.guest_cid:
            return  # nobody to answer
        key = (header.dst_port, header.src_port)
        connection = self.connections.get(key)
        is_ours = header.dst_cid == HOST_CID and header.type == VIRTIO_VSOCK_TYPE_STREAM
        if connection is None or not is_ours:
            if is_ours and header.op == VIRTIO_VSOCK_OP_REQUEST:
                self._requested(header)
            elif header.op != VIRTIO_VSOCK_OP_RST:
                self._reset(header)
            return
        connection.take_credit(header)
        try:
            if header.op == VIRTIO_VSOCK_OP_RW:
                counters.tx_bytes_count += header.size
                connection.write(views, header.size)
            else:
                self._control(connection, header)
        except ConnectionBroken:
            self._kill(connection)
        except HostError:
            counters.tx_write_fails += 1
            self._kill(connection)
        else:
            if connection.is_alive:
                self._follow_up(connection)

    def _control(self, connection: Connection, header: Header) -> None:
        op = header.op
        if op == VIRTIO_VSOCK_OP_RESPONSE:
            connection.responded()
            self._dying.remove((header.dst_port, header.src_port))
        elif op == VIRTIO_VSOCK_OP_SHUTDOWN:
            connection.shut_down(header.flags)
        elif op == VIRTIO_VSOCK_OP_CREDIT_REQUEST:
            connection.pending.add(VIRTIO_VSOCK_OP_CREDIT_UPDATE)
        elif op == VIRTIO_VSOCK_OP_RST:
            self._remove(connection)
        # A credit update has done its work; requests of open connections, and operations that
        # there are not, mean nothing.

    def _requested(self, header: Header) -> None:
        if len(self.connections) >= MAX_CONNECTIONS:
            self._reset(header)
            return
        connection = Connection(self.guest_cid, header.src_port, header.dst_port, None)
        connection.take_credit(header)
        key = self._add(connection)
        self._connect(key, connection)
        if key in self._busy:
            self._dying.add(key)
            if not self._retry.armed:
                self._retry.arm(RETRY)

    def _connect(self, key: tuple[int, int], connection: Connection) -> None:
        """Try to reach the host's program for what the guest has asked."""
        try:
            stream = self._host.connect(connection.host_port)
        except HostError:
            self._kill(connection)
            return
        if stream is None:
            self._busy.add(key)
            return
        self._busy.discard(key)
        self._dying.remove(key)
        connection.accept(stream)
        self._watch(connection)
        self._follow_up(connection)

    def _connect_busy(self) -> None:
        for key in sorted(self._busy):
            self._connect(key, self.connections[key])
        if self._busy:
            self._retry.arm(RETRY)
        self._wake()

    def _reset(self, header: Header) -> None:
        """Answer a packet that belongs to no connection."""
        if len(self.resets) < MAX_RESETS:
            cid, port = header.dst_cid, header.dst_port
            self.resets.append(_rst(cid, port, self.guest_cid, header.src_port, header.type))

    # ------------------------------------------------------------- from the host

    def _connected(self, stream: Stream, guest_port: int) -> None:
        """A program on the host asks for ``guest_port``."""
        if len(self.connections) >= MAX_CONNECTIONS:
            stream.close()
            return
        port = self._new_port(guest_port)
        connection = Connection(self.guest_cid, guest_port, port, stream)
        connection.request()
        self._dying.add(self._add(connection))
        self._watch(connection)
        self._follow_up(connection)
        self._wake()

    def _new_port(self, guest_port: int) -> int:
        """The next host port for a connection to ``guest_port``: there are more than connections.

        The guest may have connected to any host port, also to one of those given out here.
        """
        while True:
            port = self.next_port
            self.next_port = port + 1 if port < LAST_HOST_PORT else FIRST_HOST_PORT
            if port not in self._host_ports and (port, guest_port) not in self.connections:
                return port

    def _ready(self, connection: Connection, events: int) -> None:
        """The host's socket of ``connection`` is ready for ``events``."""
        try:
            if events & EPOLLOUT:
                connection.flush()
                connection.finish_writing()
            connection.is_readable = True
            if events & (EPOLLHUP | EPOLLERR):
                self._hung_up(connection)
        except HostError:
            self._counters.tx_flush_fails += 1
            self._kill(connection)
        if connection.is_alive:
            self._follow_up(connection)
        self._wake()

    def _hung_up(self, connection: Connection) -> None:
        connection.is_hung_up = True
        if not connection.is_open:
            self._kill(connection)  # the program did not wait for the guest
        elif connection.has_read_all:
            connection.hang_up(BOTH)

    # --------------------------------------------------------- towards the guest

    def turn(self) -> Connection | None:
        """The connection whose turn it is, if any has something for the guest."""
        turns = self._turns
        while turns:
            connection = turns[0]
            if connection.has_work:
                return connection
            self.end_turn(connection)
        return None

    def end_turn(self, connection: Connection) -> None:
        """The connection had its turn; if it has more, it gets another after the others."""
        if connection.is_queued:
            self._turns.popleft()
            connection.is_queued = False
        if connection.is_alive:
            self._follow_up(connection)

    def settle(self) -> None:
        """No more is served for now: sockets that wait for a turn are no longer watched.

        Only now, since most have had their turn by now: that saves two system calls for each.
        """
        for connection in self._queued:
            if connection.is_queued:
                self._update_watch(connection)
        self._queued.clear()

    def read_failed(self, connection: Connection) -> None:
        """The host's socket of the connection whose turn it is cannot be read."""
        self._counters.rx_read_fails += 1
        self._kill(connection)

    def _follow_up(self, connection: Connection) -> None:
        """Something about ``connection`` has changed: queue it, end it, watch it as it needs."""
        if connection.is_finished:
            self._kill(connection, by_guest=True)
            return
        if connection.is_closing:
            self._dying.add((connection.host_port, connection.guest_port))
        if not connection.has_work:
            self._update_watch(connection)
        elif not connection.is_queued:
            connection.is_queued = True
            self._turns.append(connection)
            self._queued.append(connection)

    # --------------------------------------------------------- the table itself

    def _add(self, connection: Connection) -> tuple[int, int]:
        key = (connection.host_port, connection.guest_port)
        self.connections[key] = connection
        if connection.is_host_initiated:
            self._host_ports.add(connection.host_port)
        self._counters.conns_added += 1
        return key

    def _watch(self, connection: Connection) -> None:
        stream = connection.stream
        assert stream is not None
        self._loop.watch(
            stream.fd, lambda events: self._ready(connection, events), connection.wanted_events()
        )

    def _update_watch(self, connection: Connection) -> None:
        if connection.stream is not None:
            self._loop.modify(connection.stream.fd, connection.wanted_events())

    def _remove(self, connection: Connection) -> None:
        """Forget a connection and close its socket."""
        key = (connection.host_port, connection.guest_port)
        del self.connections[key]
        self._host_ports.discard(connection.host_port)
        self._busy.discard(key)
        self._dying.remove(key)
        connection.is_alive = False
        if connection.is_queued:
            connection.is_queued = False
            self._turns.remove(connection)
        if connection.stream is not None:
            self._loop.unwatch(connection.stream.fd)
            connection.stream.close()
            connection.stream = None
        self._counters.conns_removed += 1

    def _kill(self, connection: Connection, *, by_guest: bool = False) -> None:
        """End a connection and tell the guest with a RST."""
        self._remove(connection)
        if not by_guest:
            self._counters.conns_killed += 1
        if len(self.resets) < MAX_RESETS + MAX_CONNECTIONS:
            host, guest = (HOST_CID, connection.host_port), (self.guest_cid, connection.guest_port)
            self.resets.append(_rst(*host, *guest, VIRTIO_VSOCK_TYPE_STREAM))

    def _expired(self, key: tuple[int, int]) -> None:
        self._kill(self.connections[key])
        self._wake()


def _rst(src_cid: int, src_port: int, dst_cid: int, dst_port: int, kind: int) -> bytes:
    header = Header(src_cid, dst_cid, src_port, dst_port, 0, kind, VIRTIO_VSOCK_OP_RST, 0, 0, 0)
    return bytes(header)
