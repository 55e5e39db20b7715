"""The socket device (virtio 1.2, section 5.10): streams between guest and host.

Packets from the guest go to the muxer at once: what a program on the host does not take is held
within the credit that the guest has.  Packets for the guest are made only when one of its buffers
is there for them; until then nothing is read on the host, and nobody is asked whether there is
something to read.

A snapshot ends all connections: the guest finds a "transport reset" in its event queue when it
goes on, and gets no packet before it has seen that.
"""

from __future__ import annotations

from pyrovm.abi.virtio import (
    VIRTIO_F_IN_ORDER,
    VIRTIO_ID_VSOCK,
    VIRTIO_RING_F_EVENT_IDX,
    VIRTIO_VSOCK_EVENT_TRANSPORT_RESET,
    VIRTIO_VSOCK_OP_RW,
    VIRTIO_VSOCK_SHUTDOWN_SEND,
)
from pyrovm.devices.vsock.connection import BOTH, MAX_BATCH
from pyrovm.devices.vsock.counters import VsockCounters
from pyrovm.devices.vsock.muxer import FIRST_HOST_PORT, LAST_HOST_PORT, Muxer
from pyrovm.devices.vsock.packet import HEADER_SIZE, data_room, parse_packet
from pyrovm.errors import GuestError, HostError
from pyrovm.virtio.device import QUEUE_SIZE, VirtioDevice
from pyrovm.virtio.queue import part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrovm.devices.vsock.connection import Connection
    from pyrovm.devices.vsock.muxer import VsockHost
    from pyrovm.virtio.device import Activation, Timer
    from pyrovm.virtio.queue import Chain, Queue

RX, TX, EVENT = range(3)
BATCH_PACKETS = 128  # of the guest, taken in one wake-up
BATCH_BYTES = 4 << 20
EVENT_SIZE = 4


class VsockDevice(VirtioDevice):
    """What the device is wherever its packets are moved: identity, address, events."""

    device_id = VIRTIO_ID_VSOCK
    queue_sizes = (QUEUE_SIZE,) * 3

    def __init__(self, guest_cid: int) -> None:
        super().__init__("vsock")
        self.features |= 1 << VIRTIO_F_IN_ORDER | 1 << VIRTIO_RING_F_EVENT_IDX
        self.guest_cid = guest_cid
        self.counters = VsockCounters()
        # After a transport reset: how many event buffers were left.  One more says that the
        # driver has seen it, since drivers give the buffer back when they have.
        self._reset_mark: int | None = None

    def config(self) -> bytes:
        return self.guest_cid.to_bytes(8, "little")

    def deactivate(self) -> None:
        self._reset_mark = None
        super().deactivate()

    def state(self) -> dict[str, Any]:
        return {"guest_cid": self.guest_cid, "reset_mark": self._reset_mark}

    def restore(self, state: dict[str, Any]) -> None:
        self.guest_cid = state["guest_cid"] & 0xFFFF_FFFF_FFFF_FFFF
        self._reset_mark = state["reset_mark"]

    def prepare_save(self) -> None:
        self.reset_transport()

    def reset_transport(self) -> None:
        """Tell the guest that all connections are gone; before a snapshot is taken.

        Raises:
            GuestError: its event queue is broken.
        """
        active = self.active
        if active is None or not active.queues[EVENT].ready:
            return
        queue = active.queues[EVENT]
        chain = queue.pop()
        if chain is None:  # a driver has eight of them; this one will find out by itself
            self.counters.ev_queue_event_fails += 1
            return
        if chain.writable_size < EVENT_SIZE:
            raise GuestError(f"vsock: an event buffer of {chain.writable_size} bytes")
        event = VIRTIO_VSOCK_EVENT_TRANSPORT_RESET.to_bytes(EVENT_SIZE, "little")
        self._reset_mark = queue.pending
        queue.push(chain.head, chain.write(event))
        queue.ask_for_next()
        if queue.needs_signal():
            active.interrupts.queue()

    def _reset_is_seen(self) -> bool:
        """Whether the guest knows of the last transport reset."""
        if self._reset_mark is not None:
            active = self.active
            if active is None or active.queues[EVENT].pending <= self._reset_mark:
                return False
            self._reset_mark = None
        return True


class VirtioVsock(VsockDevice):
    """Connections lead to and come from ``host``, which the device owns."""

    def __init__(self, guest_cid: int, host: VsockHost) -> None:
        super().__init__(guest_cid)
        self._host = host
        self._next_port = FIRST_HOST_PORT
        self._muxer: Muxer | None = None
        self._again: Timer | None = None  # fires at once: work was left for the next round

    # -------------------------------------------------------------- life cycle

    def activate(self, active: Activation) -> None:
        super().activate(active)
        for index in (RX, TX, EVENT):
            if not active.queues[index].ready:
                raise GuestError(f"vsock: queue {index} is not ready")
        self._again = active.loop.timer(self._go_on)
        self._muxer = Muxer(
            self.guest_cid, self._host, active.loop, self.counters, self._serve_rx, self._next_port
        )
        active.queues[RX].disable_notifications()

    def deactivate(self) -> None:
        if self._muxer is not None:
            self._next_port = self._muxer.next_port
            self._muxer.close()
            self._muxer = None
        if self._again is not None:
            self._again.disarm()
            self._again = None
        super().deactivate()

    def close(self) -> None:
        self._host.close()

    def state(self) -> dict[str, Any]:
        next_port = self._next_port if self._muxer is None else self._muxer.next_port
        return {**super().state(), "next_port": next_port}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        # One that was served by the kernel (vhost) has no port of its own to go on from.
        port = state.get("next_port", FIRST_HOST_PORT)
        self._next_port = min(max(port, FIRST_HOST_PORT), LAST_HOST_PORT)

    def reset_transport(self) -> None:
        if self._muxer is not None:
            self._muxer.drop_all()
        super().reset_transport()

    # ------------------------------------------------------------------ queues

    def process(self, index: int) -> None:
        counters = self.counters
        try:
            if index == TX:
                counters.tx_queue_event_count += 1
                self._serve_tx()
            elif index == RX:
                counters.rx_queue_event_count += 1
            self._serve_rx()
        except GuestError:
            if index == TX:
                counters.tx_queue_event_fails += 1
            elif index == RX:
                counters.rx_queue_event_fails += 1
            else:
                counters.ev_queue_event_fails += 1
            raise

    def kick(self) -> None:
        super().kick()
        if self.active is not None and self._reset_mark is not None:
            self.active.interrupts.queue()  # the one for the event was perhaps lost

    def _go_on(self) -> None:
        self._serve_tx()
        self._serve_rx()

    def _serve_tx(self) -> None:
        """Take what the guest sends.  hot: per packet."""
        active, muxer = self.active, self._muxer
        if active is None or muxer is None:
            return
        queue = active.queues[TX]
        queue.disable_notifications()
        left = BATCH_BYTES
        for _ in range(BATCH_PACKETS):
            chain = queue.pop()
            if chain is None:
                if not queue.enable_notifications():
                    break
                queue.disable_notifications()
                continue
            header, views = parse_packet(chain)
            muxer.from_guest(header, views)
            queue.push(chain.head, 0)
            left -= header.size
            if left < 0:
                self._serve_again()
                break
        else:
            self._serve_again()
        if queue.needs_signal():
            active.interrupts.queue()

    def _serve_again(self) -> None:
        assert self._again is not None
        self._again.arm(0.0)

    # --------------------------------------------------------- towards the guest

    def _serve_rx(self) -> None:
        """Fill the guest's buffers, for as long as there are any and something to put there."""
        active, muxer = self.active, self._muxer
        if active is None or muxer is None:
            return
        queue = active.queues[RX]
        left = queue.size if self._reset_is_seen() else 0
        while left > 0:
            if muxer.resets:
                used = self._send(queue, muxer.resets[0])
                if used:
                    muxer.resets.popleft()
            else:
                connection = muxer.turn()
                if connection is None:
                    break
                used = self._serve_connection(muxer, connection, queue, left)
                if used:
                    muxer.end_turn(connection)
            if not used:  # no buffers: the driver rings when there are some
                break
            left -= used
        else:
            if self._reset_mark is None:
                self._serve_again()
        muxer.settle()
        if queue.needs_signal():
            active.interrupts.queue()

    def _serve_connection(
        self, muxer: Muxer, connection: Connection, queue: Queue, limit: int
    ) -> int:
        """One turn of a connection: how many buffers it took, 0 if there are none."""
        operation = connection.next_operation()
        if operation is None:
            return self._read(muxer, connection, queue, limit)
        if not self._send(queue, connection.header(operation)):
            connection.pending.add(operation)
            return 0
        return 1

    def _send(self, queue: Queue, header: bytes) -> int:
        """Send a packet without data: 1, or 0 if there is no buffer."""
        chain = _take(queue)
        if chain is None:
            return 0
        data_room(chain)
        queue.push(chain.head, chain.write(header))
        self.counters.rx_packets_count += 1
        return 1

    def _read(self, muxer: Muxer, connection: Connection, queue: Queue, limit: int) -> int:
        """Read from the host's program straight into the guest's buffers.  hot: per batch.

        As many buffers are filled with one read as the connection has lately had use for.
        """
        stream, credit = connection.stream, connection.credit
        assert stream is not None
        chains: list[tuple[Chain, int]] = []
        views: list[memoryview] = []
        room = 0
        for _ in range(min(connection.batch, limit)):
            chain = _take(queue)
            if chain is None:
                break
            size = min(data_room(chain), credit - room)
            if not size:
                raise GuestError("vsock: a buffer with no room for data")
            views += part(chain.writable, HEADER_SIZE, size)
            chains.append((chain, size))
            room += size
            if room == credit:
                break
        if not chains:
            return 0
        try:
            done = stream.read(views)
        except HostError:
            queue.undo_pop(len(chains))
            muxer.read_failed(connection)
            return 1
        connection.is_readable = done == room
        if not done:
            queue.undo_pop(len(chains))
            if done == 0:
                connection.hang_up(BOTH if connection.is_hung_up else VIRTIO_VSOCK_SHUTDOWN_SEND)
            return 1
        connection.batch = min(2 * connection.batch, MAX_BATCH) if done == room else 1
        connection.sent(done)
        self.counters.rx_bytes_count += done
        filled = 0
        for chain, size in chains:
            size = min(size, done)
            chain.write(connection.header(VIRTIO_VSOCK_OP_RW, size))
            queue.push(chain.head, HEADER_SIZE + size)
            filled += 1
            done -= size
            if not done:
                break
        queue.undo_pop(len(chains) - filled)
        self.counters.rx_packets_count += filled
        return filled


def _take(queue: Queue) -> Chain | None:
    """A buffer of the guest; if there is none, the guest rings when it adds one."""
    queue.disable_notifications()
    chain = queue.pop()
    if chain is None and queue.enable_notifications():
        queue.disable_notifications()
        chain = queue.pop()
    return chain
