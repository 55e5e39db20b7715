"""One stream between a program in the guest and one on the host: handshake, credit, closing.

The connection knows no socket: a :class:`Stream` moves the host's bytes and never blocks, and what
the guest is to be told waits in ``pending`` until a buffer of the guest's is there for it.

Credit (virtio 1.2, section 5.10.6.3).  Each side tells the other how much it can hold
(``buf_alloc``) and how much it has passed on so far (``fwd_cnt``); the difference between what was
sent and what was passed on may not exceed the former.  We can hold 64 KiB for each connection:
what the host's socket does not take at once.  All counts are 32 bits wide and wrap.

Closing.  Each direction ends by itself::

    the host's program        shutdown(SHUT_WR)          -> SHUTDOWN(SEND) to the guest
                              shutdown(SHUT_RD)          -> SHUTDOWN(RCV)
                              close()                    -> SHUTDOWN(both), then 2 s for its RST
    the guest                 SHUTDOWN(SEND)             -> our socket's write side, when flushed
                              SHUTDOWN(RCV)              -> our socket's read side
                              SHUTDOWN(both)             -> RST and close, when flushed, in 2 s
"""

from __future__ import annotations

from pyrovm.abi.virtio import (
    VIRTIO_VSOCK_OP_CREDIT_REQUEST,
    VIRTIO_VSOCK_OP_CREDIT_UPDATE,
    VIRTIO_VSOCK_OP_REQUEST,
    VIRTIO_VSOCK_OP_RESPONSE,
    VIRTIO_VSOCK_OP_SHUTDOWN,
    VIRTIO_VSOCK_SHUTDOWN_RCV,
    VIRTIO_VSOCK_SHUTDOWN_SEND,
    VIRTIO_VSOCK_TYPE_STREAM,
)
from pyrovm.devices.vsock.packet import HEADER, HOST_CID
from pyrovm.errors import GuestError
from pyrovm.virtio.device import EPOLLIN, EPOLLOUT
from pyrovm.virtio.queue import part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from pyrovm.devices.vsock.packet import Header

    class Stream(Protocol):
        """The host's end: a non-blocking byte stream.  Every method may raise HostError."""

        fd: int  # to be watched

        def read(self, views: list[memoryview]) -> int | None:
            """Fill the views in order: bytes read, 0 at the end, None if there is nothing yet."""

        def write(self, views: list[memoryview]) -> int | None:
            """Take bytes from the views in order: how many; None if nobody reads any more."""

        def established(self, host_port: int) -> None:
            """The guest has accepted a connection that the host's program asked for."""

        def close_write(self) -> None:
            """No more will be written."""

        def close_read(self) -> None:
            """No more will be read."""

        def close(self) -> None:
            """Release the socket."""


BUFFER_SIZE = 64 << 10  # bytes that we hold for a slow program on the host
UPDATE_THRESHOLD = 4 << 10  # credit that the guest has left when it is told of more
BOTH = VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND
EPOLLERR, EPOLLHUP = 0x8, 0x10
MAX_BATCH = 16  # buffers of the guest that one read of the host's socket fills
U32 = 0xFFFF_FFFF

# What the guest has to be told, in the order in which it is told.
PENDING = (
    VIRTIO_VSOCK_OP_REQUEST,
    VIRTIO_VSOCK_OP_RESPONSE,
    VIRTIO_VSOCK_OP_SHUTDOWN,
    VIRTIO_VSOCK_OP_CREDIT_REQUEST,
    VIRTIO_VSOCK_OP_CREDIT_UPDATE,
)


class ConnectionBroken(GuestError):
    """The guest broke a rule of this connection; it costs the guest the connection."""


class Connection:
    """A stream, from the first word about it to the last.

    ``host_port`` and ``guest_port`` identify it.  ``stream`` is None while the host's program has
    no room for another connection.
    """

    __slots__ = (
        "_announced",
        "_forwarded",
        "_guest_alloc",
        "_guest_forwarded",
        "_sent",
        "batch",
        "buffer",
        "guest_cid",
        "guest_port",
        "guest_shutdown",
        "host_port",
        "host_shutdown",
        "is_alive",
        "is_host_initiated",
        "is_hung_up",
        "is_open",
        "is_queued",
        "is_readable",
        "pending",
        "stream",
    )

    def __init__(
        self, guest_cid: int, guest_port: int, host_port: int, stream: Stream | None
    ) -> None:
        self.guest_cid = guest_cid
        self.guest_port = guest_port
        self.host_port = host_port
        self.stream = stream
        self.is_alive = True  # in the muxer's table
        self.is_host_initiated = False
        self.is_open = False
        self.is_queued = False  # waits for its turn, and for buffers of the guest
        self.is_hung_up = False  # the host's socket is closed; what it has left can still be read
        self.is_readable = False  # the host's socket was seen to have something
        self.pending: set[int] = set()  # operations to tell the guest of
        self.host_shutdown = 0  # what the host's program does no more
        self.guest_shutdown = 0  # what the guest does no more
        self.buffer = bytearray()  # from the guest, not yet taken by the host's socket
        self.batch = 1  # buffers of the guest to fill with the next read
        self._sent = 0  # to the guest
        self._guest_alloc = 0
        self._guest_forwarded = 0
        self._forwarded = 0  # to the host's socket
        self._announced = 0  # the value of _forwarded that the guest knows

    # ------------------------------------------------------------ the handshake

    def request(self) -> None:
        """The host's program asks for this connection."""
        self.is_host_initiated = True
        self.pending.add(VIRTIO_VSOCK_OP_REQUEST)

    def accept(self, stream: Stream) -> None:
        """The host's program has accepted what the guest asked for."""
        self.stream = stream
        self.is_open = True
        self.pending.add(VIRTIO_VSOCK_OP_RESPONSE)

    def responded(self) -> None:
        """The guest has accepted what the host's program asked for.

        Raises:
            ConnectionBroken: nobody had asked.
        """
        if self.is_open or not self.is_host_initiated or self.stream is None:
            raise ConnectionBroken("vsock: a response to no request")
        self.is_open = True
        self.stream.established(self.host_port)

    # ---------------------------------------------------------- towards the host

    def take_credit(self, header: Header) -> None:
        """Every packet of the guest says what it can hold.  hot: per packet."""
        self._guest_alloc = header.buf_alloc
        self._guest_forwarded = header.fwd_cnt

    def write(self, views: list[memoryview], size: int) -> None:
        """Data of the guest, ``size`` bytes of it.  hot: per packet.

        Raises:
            ConnectionBroken: the guest had no credit, or had said that it would send no more.
            HostError: the host's socket is broken in a way that is not just closed.
        """
        stream, buffer = self.stream, self.buffer
        if not self.is_open or stream is None or self.guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND:
            raise ConnectionBroken("vsock: data where none may be sent")
        if len(buffer) + size > BUFFER_SIZE:
            raise ConnectionBroken(f"vsock: {size} bytes sent without credit")
        if not size:
            return
        done = 0 if buffer or self._nobody_reads else self._write(stream, views)
        if self._nobody_reads:  # sent before the guest could know
            return
        self._forwarded = (self._forwarded + done) & U32
        if done < size:
            for view in part(views, done, size - done):
                buffer += view
        self._offer_credit()

    def flush(self) -> None:
        """The host's socket has room: write what was held back.

        Raises:
            HostError: as :meth:`write`.
        """
        stream, buffer = self.stream, self.buffer
        if not buffer or stream is None:
            return
        with memoryview(buffer) as held:
            done = self._write(stream, [held])
        if self._nobody_reads:
            buffer.clear()
            return
        del buffer[:done]
        self._forwarded = (self._forwarded + done) & U32
        self._offer_credit()

    @property
    def _nobody_reads(self) -> int:
        return self.host_shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV

    def _write(self, stream: Stream, views: list[memoryview]) -> int:
        """Bytes that were taken; 0, and the guest is told, if nobody reads any more."""
        done = stream.write(views)
        if done is None:
            self.hang_up(VIRTIO_VSOCK_SHUTDOWN_RCV)
            return 0
        return done

    def _offer_credit(self) -> None:
        unknown = (self._forwarded - self._announced) & U32
        if unknown >= BUFFER_SIZE - UPDATE_THRESHOLD:
            self.pending.add(VIRTIO_VSOCK_OP_CREDIT_UPDATE)

    # --------------------------------------------------------- towards the guest

    @property
    def credit(self) -> int:
        """Bytes that the guest has room for."""
        in_flight = (self._sent - self._guest_forwarded) & U32
        return max(0, self._guest_alloc - in_flight)

    @property
    def may_read(self) -> bool:
        """Whether what the host's program sends has somewhere to go."""
        return self.is_open and not self.has_read_all and self.credit > 0

    def sent(self, size: int) -> None:
        """So much data was read from the host's program, for the guest.  hot: per batch."""
        self._sent = (self._sent + size) & U32
        if not self.credit:
            self.pending.add(VIRTIO_VSOCK_OP_CREDIT_REQUEST)

    def hang_up(self, flags: int) -> None:
        """The host's program does no more what ``flags`` (SHUTDOWN's) say; the guest is told."""
        if flags & ~self.host_shutdown:
            self.host_shutdown |= flags
            self.pending.add(VIRTIO_VSOCK_OP_SHUTDOWN)

    def next_operation(self) -> int | None:
        """Take the next thing that the guest has to be told."""
        pending = self.pending
        if not pending:
            return None
        for operation in PENDING:
            if operation in pending:
                pending.discard(operation)
                return operation
        raise AssertionError(f"operation {pending} has no turn")

    def header(self, operation: int, size: int = 0) -> bytes:
        """A packet's header; with it the guest knows our credit.  hot: per packet."""
        self._announced = forwarded = self._forwarded
        self.pending.discard(VIRTIO_VSOCK_OP_CREDIT_UPDATE)
        flags = self.host_shutdown if operation == VIRTIO_VSOCK_OP_SHUTDOWN else 0
        return HEADER.pack(
            HOST_CID,
            self.guest_cid,
            self.host_port,
            self.guest_port,
            size,
            VIRTIO_VSOCK_TYPE_STREAM,
            operation,
            flags,
            BUFFER_SIZE,
            forwarded,
        )

    # --------------------------------------------------------------- its end

    def shut_down(self, flags: int) -> None:
        """The guest does no more what ``flags`` (SHUTDOWN's) say; the host's program is told.

        Raises:
            ConnectionBroken: there was no connection yet.
            HostError: the host's socket is broken.
        """
        if not self.is_open or self.stream is None:
            raise ConnectionBroken("vsock: a shutdown before the handshake")
        new = flags & BOTH & ~self.guest_shutdown
        self.guest_shutdown |= new
        if new & VIRTIO_VSOCK_SHUTDOWN_RCV:
            self.stream.close_read()
        self.finish_writing()

    def finish_writing(self) -> None:
        """Close the host's write side when the guest sends no more and all of it is written."""
        done = self.guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND and not self.buffer
        if done and self.stream is not None:
            self.stream.close_write()

    @property
    def is_finished(self) -> bool:
        """Whether the guest has closed it and everything it sent is written."""
        return self.guest_shutdown == BOTH and not self.buffer

    @property
    def is_closing(self) -> bool:
        """Whether one side has closed it, so that it must end soon."""
        return BOTH in (self.guest_shutdown, self.host_shutdown)

    @property
    def has_work(self) -> bool:
        """Whether there is something for a buffer of the guest's."""
        return bool(self.pending) or (self.is_readable and self.may_read)

    def wanted_events(self) -> int:
        """What the host's socket should be watched for, as for epoll; 0 for nothing.

        epoll is level-triggered: a socket that cannot be served must not be watched for what makes
        it ready, and a hang-up makes it ready for ever.
        """
        events = EPOLLOUT if self.buffer else 0
        if self.may_read and not self.is_queued:
            return events | EPOLLIN
        if events or self.host_shutdown == BOTH:
            return events
        # A program that hangs up may have left something to read: for as long as it cannot be
        # read, the hang-up is not looked at either.
        return EPOLLHUP if not self.is_open or self.has_read_all else 0

    @property
    def has_read_all(self) -> bool:
        """Whether nothing of the host's program goes to the guest any more."""
        return bool(
            self.host_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND
            or self.guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV
        )
