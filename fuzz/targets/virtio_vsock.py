"""The socket device: packets of the guest, programs on the host that come, stall and go."""

from __future__ import annotations

from struct import pack

from fuzz.devices import Harness
from fuzz.source import Source
from pyrovm.devices.virtio_vsock import VirtioVsock
from pyrovm.devices.vsock.connection import BUFFER_SIZE
from pyrovm.devices.vsock.muxer import MAX_CONNECTIONS, MAX_RESETS
from pyrovm.devices.vsock.packet import HEADER_SIZE, HOST_CID
from pyrovm.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.devices.vsock.connection import Stream
    from pyrovm.virtio.device import Loop

GUEST_CID = 3
FIRST_FD = 100
PORTS = 6  # few, so that packets meet connections
EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP = 1, 4, 8, 16


class Program:
    """A stream of the host; what it does next is in the input.  Not used after its end."""

    def __init__(self, source: Source, fd: int) -> None:
        self.fd = fd
        self.closed = False
        self._source = source

    def _fate(self) -> int:
        assert not self.closed, "used after its end"
        fate = self._source.u8()
        if fate == 0xFF:
            raise HostError("recv: Connection reset by peer", 104)
        return fate

    def read(self, views: list[memoryview]) -> int | None:
        """Everything, a little, the end, or nothing yet."""
        fate = self._fate()
        room = sum(map(len, views))
        assert room > 0
        return (None, 0, room, min(room, fate))[fate & 3]

    def write(self, views: list[memoryview]) -> int | None:
        """Everything, a little, nothing, or nobody reads."""
        fate = self._fate()
        size = sum(map(len, views))
        assert 0 < size <= BUFFER_SIZE
        return (size, size, min(size, fate), None if fate & 4 else 0)[fate & 3]

    def established(self, host_port: int) -> None:
        """The guest has accepted."""
        self._fate()

    def close_write(self) -> None:
        """No more comes."""
        self._fate()

    def close_read(self) -> None:
        """No more is read."""
        self._fate()

    def close(self) -> None:
        """Once."""
        assert not self.closed
        self.closed = True


class Host:
    """Programs that listen at even ports, and come by :meth:`arrive`."""

    def __init__(self, source: Source) -> None:
        self.programs: list[Program] = []
        self._source = source
        self._connected: Callable[[Stream, int], None] | None = None

    def start(self, loop: Loop, connected: Callable[[Stream, int], None]) -> None:
        """Programs may come."""
        assert self._connected is None
        self._connected = connected

    def stop(self) -> None:
        """No program comes any more."""
        assert self._connected is not None
        self._connected = None

    def connect(self, port: int) -> Stream | None:
        """Nobody listens at odd ports; others are sometimes busy."""
        if port & 1:
            raise HostError("connect: Connection refused", 111)
        return None if self._source.u8() & 7 == 7 else self._new()

    def arrive(self, guest_port: int) -> None:
        """A program asks for a port of the guest."""
        if self._connected is not None:
            self._connected(self._new(), guest_port)

    def _new(self) -> Program:
        program = Program(self._source, FIRST_FD + len(self.programs))
        self.programs.append(program)
        return program

    def close(self) -> None:
        """Nothing to do."""


def request(source: Source) -> tuple[bytes, int]:
    """A packet for the host, or a buffer to receive into."""
    kind = source.u8()
    if kind & 3 == 0:
        return b"", source.choice((4096, 4096, HEADER_SIZE + 1, HEADER_SIZE, 43, 70_000, 8))
    host_port = source.below(PORTS) if kind & 4 else (1 << 30) + source.below(PORTS)
    data = source.blob(60) if kind & 8 else b""
    size = len(data) if kind & 0xF0 else source.edge(32)
    header = pack(
        "<QQIIIHHIII",
        GUEST_CID if kind & 0xE0 else source.edge(),
        HOST_CID if kind & 0xD0 else source.edge(),
        source.below(PORTS),
        host_port,
        size,
        1 if kind & 0xB0 else source.below(3),
        source.below(9),
        source.below(5),
        source.choice((4096, 4096, 0, 1, 1 << 31)),
        source.choice((0, 0, 4096, 100, 0xFFFF_FFFF)),
    )
    return header + data, 0


def one_input(data: bytes) -> None:
    """Every program is closed exactly once, and what waits for anybody is bounded."""
    source = Source(data)
    hosts: list[Host] = []

    def make() -> VirtioVsock:
        hosts.append(Host(source))
        return VirtioVsock(GUEST_CID, hosts[-1])

    def host(device: VirtioVsock) -> None:
        """What happens on the host between two steps of the driver."""
        loop = harness.driver.loop
        kind = source.u8()
        if kind & 7 == 0:
            device.reset_transport()
        elif kind & 1:
            hosts[0].arrive(source.below(PORTS))
        elif loop.watched:
            fd = source.choice(sorted(loop.watched))
            events = source.choice((EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLOUT, EPOLLHUP, EPOLLERR))
            loop.fire(fd, events)

    harness = Harness(make, source, request, host=host)  # type: ignore[arg-type]
    device = harness.driver.device
    assert isinstance(device, VirtioVsock)

    def check() -> None:
        muxer = device._muxer
        if muxer is None:
            assert all(program.closed for program in hosts[0].programs)
            return
        assert len(muxer.connections) <= MAX_CONNECTIONS
        assert len(muxer.resets) <= MAX_RESETS + MAX_CONNECTIONS
        assert all(len(c.buffer) <= BUFFER_SIZE for c in muxer.connections.values())
        streams = {id(c.stream) for c in muxer.connections.values() if c.stream is not None}
        alive = {id(program) for program in hosts[0].programs if not program.closed}
        assert streams == alive
        fds = {c.stream.fd for c in muxer.connections.values() if c.stream is not None}
        assert fds == set(harness.driver.loop.watched)
        counters = device.counters
        assert counters.conns_added - counters.conns_removed == len(muxer.connections)

    harness.run(check)
    harness.finish()


SEEDS = [
    # Buffers for the guest, then a request of the guest, data, and its end.
    b"\x00\x00\x00\x00\x00" * 4
    + b"\x00\x01\xf5\x02\x00\x01\x00\x00\x00\x00\x00"
    + b"\x00\x01\xfd\x02\x05hello\x00\x05\x00\x00\x00\x00\x00"
    + b"\x00\x01\xf5\x02\x00\x04\x03\x00\x00\x00\x00\x00",
    # Data that the program takes in two parts; it closes; the guest closes.
    b"\x00\x00\x00\x00\x00" * 6
    + b"\x00\x01\xf5\x02\x00\x01\x00\x00\x00\x00\x00"
    + b"\x00\x01\xfd\x02\x05hello\x00\x05\x00\x00\x00\x00\x02"
    + b"\x0e\x02\x00\x01\x00"
    + b"\x0e\x02\x00\x03\x01"
    + b"\x00\x01\xf5\x02\x00\x04\x01\x00\x00\x00\x00\x00",
    # A program of the host, the guest's answer, and data for the guest.
    b"\x00\x00\x00\x00\x00" * 4
    + b"\x0e\x01\x02\x00\x01\xf1\x00\x02\x02\x00\x00\x00\x00\x0e\x02\x00\x00",
    b"\x0e\x00\x0e\x01\x01\x0e\x02\x00\x03\x0a\x03",
]
