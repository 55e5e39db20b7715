"""A hostile driver for any virtio device: rings, registers and memory by the bytes of one input.

What must hold whatever it does: only the device's own errors escape its handlers (the transport
turns them into NEEDS_RESET), the device never touches more of guest memory than its queues allow,
what it changes there is in the dirty log, a broken device stays quiet until it is reset, and a
saved device is the same device.
"""

from __future__ import annotations

from pyrovm.abi import virtio as v
from pyrovm.errors import GuestError, HostError
from tests.fakes.driver import Driver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fuzz.source import Source
    from pyrovm.virtio.device import VirtioDevice

    # Fills a request's readable part; what to write and how much room to give.
    Request = Callable[[Source], tuple[bytes, int]]

PAGE_SHIFT, PAGE_SIZE = 12, 0x1000
MEMORY_SIZE = 0x80000  # rings below, buffers above
BUFFERS = 0x60000
BUFFER_SIZE = 0x1000
MAX_ACCESSES = 3 * 256 * 256  # of guest memory in one notification: every chain at its longest

REGISTERS = (
    *range(0, 0x110, 4),
    v.VIRTIO_MMIO_STATUS,
    v.VIRTIO_MMIO_STATUS,
    v.VIRTIO_MMIO_QUEUE_SEL,
    v.VIRTIO_MMIO_QUEUE_READY,
)
STATUSES = (0, 1, 3, 11, 15, 128, 64, 2)
LEGAL_STATUS = 0xFF


class Harness:
    """One device under attack.

    ``request(source)`` makes a request of the device's kind, ``host(device)`` does what the API
    may do meanwhile.
    """

    def __init__(
        self,
        make: Callable[[], VirtioDevice],
        source: Source,
        request: Request | None = None,
        host: Callable[[VirtioDevice], None] | None = None,
    ) -> None:
        self._make = make
        self._source = source
        self._request = request
        self._host = host
        self.driver = Driver(make(), memory_size=MEMORY_SIZE, bring_up=True)
        self._accesses = 0
        self._count_accesses()

    def _count_accesses(self) -> None:
        memory = self.driver.memory
        slice_, writable = memory.slice, memory.writable

        def counted_slice(gpa: int, size: int) -> memoryview:
            self._accesses += 1
            assert self._accesses <= MAX_ACCESSES, "unbounded work for one notification"
            return slice_(gpa, size)

        def counted_writable(gpa: int, size: int) -> memoryview:
            self._accesses += 1
            assert self._accesses <= MAX_ACCESSES, "unbounded work for one notification"
            return writable(gpa, size)

        memory.slice = counted_slice  # type: ignore[method-assign]
        memory.writable = counted_writable  # type: ignore[method-assign]

    def run(self, check: Callable[[], None] | None = None) -> None:
        """Do what the input says, to its end; ``check`` is the device's own after each step."""
        steps = (
            self._send_request,
            self._send_request,
            self._send_request,
            self._add_chain,
            self._put_descriptor,
            self._publish,
            self._write_register,
            self._write_status,
            self._write_config,
            self._poke_ring,
            self._advance,
            self._bring_up,
            self._save_and_restore,
            self._notify,
            self._call_host,
            self._make_ready,
            self._pause_and_resume,
        )
        while self._source.left:
            steps[self._source.below(len(steps))]()
            self.check()
            if check is not None:
                check()

    def finish(self) -> None:
        """A reset brings any device back, and closing it always works."""
        self.driver.write(v.VIRTIO_MMIO_STATUS, 0)
        assert self.driver.device.active is None
        self._bring_up()
        self.check()
        self.driver.write(v.VIRTIO_MMIO_STATUS, 0)
        self.driver.device.close()

    # ------------------------------------------------------------------ steps

    def _queue(self) -> Any:
        return self._source.choice(self.driver.queues)

    def _notify(self) -> None:
        self._ring(self._source.below(len(self.driver.queues)))

    def _ring(self, index: int) -> None:
        self._as_machine(lambda: self.driver.device.process(index), index)

    def _as_machine(self, call: Callable[[], object], index: int | None = None) -> None:
        """Call into the device as the machine does: its errors break it, its work is bounded."""
        driver, memory = self.driver, self.driver.memory
        if index is not None and not (
            driver.device.active is not None and driver.transport.queues[index].ready
        ):
            return
        before = None
        if memory.tracks_dirty:
            memory.take_dirty()
            before = self._contents()
        self._accesses = 0
        try:
            call()
        except GuestError as error:
            driver.transport.fail(str(error))
        # What lies in the buffers of a driver that is gone matters to nobody.
        lives = driver.device.active is not None
        if lives and before is not None and before != (after := self._contents()):
            changed = {
                at >> PAGE_SHIFT
                for at in range(0, MEMORY_SIZE, PAGE_SIZE)
                if after[at : at + PAGE_SIZE] != before[at : at + PAGE_SIZE]
            }
            assert changed <= memory.take_dirty(), "a change that a migration would miss"

    def _contents(self) -> bytearray:
        """Guest memory, but for the words by which devices suppress notifications: these are not
        in the dirty log.  A device that goes on elsewhere looks at all queues and writes them anew.
        """
        contents = bytearray(self.driver.ram)
        for queue in self.driver.transport.queues:
            for word in (queue.used, queue.used + 4 + 8 * queue.size):
                if word + 2 <= MEMORY_SIZE:
                    contents[word : word + 2] = b"\0\0"
        return contents

    def _send_request(self) -> None:
        """A request as a proper driver would make it, then the bell."""
        if self._request is None:
            self._add_chain()
            return
        queue = self._queue()
        readable, room = self._request(self._source)
        cut = self._source.below(len(readable) + 1)
        pieces = [(BUFFERS, readable[:cut]), (BUFFERS + BUFFER_SIZE, readable[cut:])]
        for gpa, piece in pieces:
            self.driver.memory.write(gpa, piece[:BUFFER_SIZE])
        readables = [(gpa, len(piece)) for gpa, piece in pieces if piece]
        writables = [(BUFFERS + 2 * BUFFER_SIZE + i * 0x2000, n) for i, n in enumerate(_cut(room))]
        if readables or writables:
            queue.add(readables, writables)
        self._ring(queue.index)

    def _add_chain(self) -> None:
        """A chain of buffers of any size, with any bytes in the first."""
        source = self._source
        parts = [(self._gpa(), source.edge(32)) for _ in range(source.below(5) + 1)]
        readable = source.below(len(parts) + 1)
        self.driver.memory.write(BUFFERS, source.blob(64))
        queue = self._queue()
        queue.add(parts[:readable], parts[readable:])
        self._ring(queue.index)

    def _gpa(self) -> int:
        source = self._source
        kind = source.u8()
        if kind & 3:
            return BUFFERS + source.below(0x1000)
        if kind & 4:
            return MEMORY_SIZE - source.below(64)
        return source.edge()

    def _put_descriptor(self) -> None:
        source, queue = self._source, self._queue()
        queue.put_descriptor(
            source.below(8),
            self._gpa(),
            source.edge(32),
            source.below(8),
            source.edge(16) if source.flag() else source.below(8),
        )

    def _publish(self) -> None:
        queue = self._queue()
        if self._source.flag():
            queue.publish(self._source.below(8))
        elif self._source.flag():
            queue.publish(self._source.u16())
        else:
            queue.set_avail_index(self._source.u16())
        self._ring(queue.index)

    def _write_register(self) -> None:
        source = self._source
        offset = source.choice(REGISTERS)
        size = 4 if source.u8() & 7 else source.choice((1, 2, 8))
        value = source.edge() if source.flag() else source.u32()
        self.driver.transport.write(offset, size, value & ((1 << 8 * size) - 1))

    def _write_status(self) -> None:
        self.driver.write(v.VIRTIO_MMIO_STATUS, self._source.choice(STATUSES))

    def _write_config(self) -> None:
        source = self._source
        size = source.choice((1, 2, 4, 8))
        value = source.edge(8 * size)
        self.driver.transport.write(0x100 + source.below(0x100), size, value)

    def _poke_ring(self) -> None:
        source, queue = self._source, self._queue()
        base = source.choice((queue.desc, queue.avail, queue.used))
        self.driver.memory.write(base + source.below(0x1000), source.blob(32))

    def _advance(self) -> None:
        """Time passes: what a device left for later happens under the transport's protection."""
        seconds = self._source.choice((0.0, 0.001, 0.1, 1.0, 100.0))
        self._as_machine(lambda: self.driver.loop.advance(seconds))

    def _bring_up(self) -> None:
        self.driver.bring_up(None if self._source.flag() else 1 << v.VIRTIO_F_VERSION_1)
        for queue in self.driver.queues:
            queue.avail_index = queue.used_index = queue.next_free = 0
            self.driver.memory.write(queue.avail, bytes(4))
            self.driver.memory.write(queue.used, bytes(4))

    def _call_host(self) -> None:
        host = self._host
        if host is not None:
            self._as_machine(lambda: host(self.driver.device))

    def _make_ready(self) -> None:
        """What the device watches has something to say."""
        loop = self.driver.loop
        for fd in sorted(loop.watched):
            if fd in loop.watched:
                self._as_machine(lambda fd=fd: loop.fire(fd))  # type: ignore[misc]

    def _pause_and_resume(self) -> None:
        """The machine stands still; maybe it keeps a dirty log from now on."""
        device = self.driver.device
        self._as_machine(device.pause)
        self.driver.memory.track_dirty(self._source.flag())
        self._as_machine(device.kick)

    def _save_and_restore(self) -> None:
        """A restored device has the same state; a live one goes on as it was."""
        state = self.driver.transport.state()
        other = Driver(self._make(), memory_size=16, bring_up=False)
        other.transport._memory = self.driver.memory
        was_broken = state["broken"]
        other.transport.restore(state)
        if other.transport.broken == was_broken:
            assert _plain(other.transport.state()) == _plain(state)
        try:
            other.transport.write(v.VIRTIO_MMIO_STATUS, 4, 0)
            other.device.close()
        except HostError as error:
            raise AssertionError("closing a device cannot fail") from error

    # ------------------------------------------------------------- invariants

    def check(self) -> None:
        """What holds between any two steps."""
        driver, transport = self.driver, self.driver.transport
        assert driver.read(v.VIRTIO_MMIO_MAGIC_VALUE) == 0x7472_6976
        assert driver.read(v.VIRTIO_MMIO_VERSION) == 2
        assert driver.read(v.VIRTIO_MMIO_DEVICE_ID) == driver.device.device_id
        status = driver.status
        assert 0 <= status <= LEGAL_STATUS
        needs_reset = bool(status & v.VIRTIO_CONFIG_S_NEEDS_RESET)
        assert needs_reset == (transport.broken is not None)
        if needs_reset or not status & v.VIRTIO_CONFIG_S_DRIVER_OK:
            assert driver.device.active is None
        if driver.device.active is not None:
            features = driver.device.active.features
            assert not features & ~driver.device.features, "only what was offered is accepted"


def _cut(room: int) -> list[int]:
    """``room`` writable bytes as descriptors of at most 8 KiB."""
    return [min(0x2000, room - at) for at in range(0, room, 0x2000)]


def _plain(state: Any) -> Any:
    """A state without what moves by itself: the clock's share of token buckets."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items() if key != "budget"}
    if isinstance(state, list):
        return [_plain(item) for item in state]
    return state
