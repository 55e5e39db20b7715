"""A guest's side of the socket device, over the mock driver; and a loop that polls real sockets."""

from __future__ import annotations

import select

from pyrovm.abi import virtio as v
from pyrovm.devices.vsock.packet import HEADER, HEADER_SIZE, Header
from pyrovm.errors import GuestError
from tests.fakes.driver import Driver, FakeLoop

CID = 42
RX, TX, EVENT = range(3)
RX_BUFFER = 4096
REQUEST, RESPONSE, RST = (
    v.VIRTIO_VSOCK_OP_REQUEST,
    v.VIRTIO_VSOCK_OP_RESPONSE,
    v.VIRTIO_VSOCK_OP_RST,
)
SHUTDOWN, RW = v.VIRTIO_VSOCK_OP_SHUTDOWN, v.VIRTIO_VSOCK_OP_RW
CREDIT_UPDATE = v.VIRTIO_VSOCK_OP_CREDIT_UPDATE
CREDIT_REQUEST = v.VIRTIO_VSOCK_OP_CREDIT_REQUEST
RCV, SEND = v.VIRTIO_VSOCK_SHUTDOWN_RCV, v.VIRTIO_VSOCK_SHUTDOWN_SEND
TYPE_STREAM = v.VIRTIO_VSOCK_TYPE_STREAM
BUF_ALLOC = 256 << 10  # what Linux has


class PollLoop(FakeLoop):
    """Time is the test's; readiness is poll(2)'s."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.fail = None  # as the machine does it: called with the text of a GuestError

    def poll(self):
        """Deliver what is ready once; how many callbacks there were."""
        poll = select.poll()
        for fd, (_, events) in self.watched.items():
            if events:  # as in the real loop, 0 mutes hang-ups too
                poll.register(fd, events)
        ready = poll.poll(0)
        for fd, events in ready:
            if fd in self.watched:
                try:
                    self.watched[fd][0](events)
                except GuestError as error:
                    self.fail(str(error))
        self.calls += len(ready)
        return len(ready)

    def settle(self, rounds=1000):
        """Deliver until nothing is ready; fails where that never happens: something spins."""
        for _ in range(rounds):
            self.advance(0)
            if not self.poll():
                return
        raise AssertionError("the loop spins")


class Packet:
    def __init__(self, header, data):
        self.header = header
        self.data = data
        self.op = header.op
        self.ports = (header.src_port, header.dst_port)


class Guest:
    """Sends and receives packets; ``buffers`` are offered for receiving and offered again."""

    def __init__(self, device, *, buffers=64, buffer_size=RX_BUFFER, loop=None, bring_up=True):
        self.driver = Driver(device, loop=loop or PollLoop(), bring_up=bring_up)
        self.loop = self.driver.loop
        self.loop.fail = self.driver.transport.fail
        self.device = device
        self.buffer_size = buffer_size
        self.heads = {}
        self.received_bytes = {}  # by (host port, guest port)
        if bring_up:
            self.tx = self.driver.alloc(HEADER_SIZE + (64 << 10))
            self.offer(buffers)

    def offer(self, count):
        """Offer so many new receive buffers."""
        for _ in range(count):
            gpa = self.driver.alloc(self.buffer_size)
            self._offer(gpa)
        if count:
            self.driver.notify(RX)

    def _offer(self, gpa):
        head = self.driver.queues[RX].add([], [(gpa, self.buffer_size)])
        self.heads[head] = gpa

    def post(self, op, guest_port, host_port, data=b"", **fields):
        """Put a packet into the queue, without ringing."""
        ports = (host_port, guest_port)
        values = {
            "src_cid": CID,
            "dst_cid": 2,
            "type": TYPE_STREAM,
            "flags": 0,
            "buf_alloc": BUF_ALLOC,
            "fwd_cnt": self.received_bytes.get(ports, 0) & 0xFFFF_FFFF,
            "size": len(data),
        } | fields
        raw = bytes(Header(src_port=guest_port, dst_port=host_port, op=op, **values)) + data
        self.driver.memory.write(self.tx, raw)
        return self.driver.queues[TX].add([(self.tx, len(raw))], [])

    def send(self, op, guest_port, host_port, data=b"", **fields):
        """Send a packet; it is taken before this returns."""
        self.post(op, guest_port, host_port, data, **fields)
        self.driver.notify(TX)
        self.driver.queues[TX].take_used()

    def receive(self, *, offer=True):
        """The packets that have come since the last call; their buffers are offered again."""
        found = []
        for head, written in self.driver.queues[RX].take_used():
            gpa = self.heads.pop(head)
            raw = self.driver.memory.read(gpa, written)
            header = Header(*HEADER.unpack(raw[:HEADER_SIZE]))
            assert written == HEADER_SIZE + header.size
            packet = Packet(header, raw[HEADER_SIZE:])
            ports = packet.ports
            self.received_bytes[ports] = self.received_bytes.get(ports, 0) + header.size
            found.append(packet)
            if offer:
                self._offer(gpa)
        if found and offer:
            self.driver.notify(RX)
        return found

    def receive_all(self):
        """Receive, and let the loop run, until nothing comes any more."""
        found = []
        while True:
            self.loop.settle()
            packets = self.receive()
            if not packets:
                return found
            found += packets

    @property
    def irqs(self):
        return self.driver.irqs

    @property
    def is_broken(self):
        return bool(self.driver.status & 0x40)
