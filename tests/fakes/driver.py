"""A driver's side of virtio, over a bytearray: builds rings, makes chains available, reads answers.

Serves unit tests, property tests, fuzzers and benchmarks alike.  ``FakeLoop`` stands in for the
event loop: descriptors are "ready" when the test says so, and time passes when the test says so.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import pack_into, unpack_from

from pyrovm.abi import virtio as v
from pyrovm.memory.guest_memory import GuestMemory, Region
from pyrovm.virtio.device import VirtioDevice
from pyrovm.virtio.mmio import VirtioMmio

MEMORY_SIZE = 16 << 20
RINGS = 0x10000  # where the first queue's rings begin; 64 KiB a queue
BUFFERS = 0x200000  # where alloc() begins


class FakeTimer:
    """A timer that fires when the loop's ``advance`` passes its deadline."""

    def __init__(self, loop: FakeLoop, callback: Callable[[], None]) -> None:
        self.loop, self.callback = loop, callback
        self.deadline: float | None = None

    def arm(self, seconds: float) -> None:
        self.deadline = self.loop.now + seconds

    def disarm(self) -> None:
        self.deadline = None

    @property
    def armed(self) -> bool:
        return self.deadline is not None


class FakeLoop:
    """Watches nothing by itself: tests call ``fire`` and ``advance``."""

    def __init__(self) -> None:
        self.watched: dict[int, tuple[Callable[[int], None], int]] = {}
        self.timers: list[FakeTimer] = []
        self.now = 0.0

    def watch(self, fd: int, callback: Callable[[int], None], events: int = 1) -> None:
        self.watched[fd] = (callback, events)

    def modify(self, fd: int, events: int) -> None:
        self.watched[fd] = (self.watched[fd][0], events)

    def unwatch(self, fd: int) -> None:
        self.watched.pop(fd, None)

    def timer(self, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(self, callback)
        self.timers.append(timer)
        return timer

    def fire(self, fd: int, events: int = 1) -> None:
        """Deliver readiness of ``fd``, if it is watched for these events."""
        callback, wanted = self.watched[fd]
        if wanted & events:
            callback(events)

    def advance(self, seconds: float) -> None:
        """Let time pass; due timers fire in order."""
        self.now += seconds
        for timer in sorted(
            (t for t in self.timers if t.deadline is not None), key=lambda t: t.deadline or 0
        ):
            if timer.deadline is not None and timer.deadline <= self.now:
                timer.deadline = None
                timer.callback()


class DriverQueue:
    """The driver's side of one queue."""

    def __init__(self, memory: GuestMemory, index: int, size: int = 256) -> None:
        self.memory, self.index, self.size = memory, index, size
        base = RINGS + index * 0x10000
        self.desc, self.avail, self.used = base, base + 0x4000, base + 0x8000
        self.avail_index = 0
        self.used_index = 0
        self.next_free = 0

    def put_descriptor(self, slot: int, gpa: int, length: int, flags: int, following: int) -> None:
        """Write one raw descriptor, sensible or not."""
        raw = bytearray(16)
        pack_into("<QIHH", raw, 0, gpa, length, flags, following)
        self.memory.write(self.desc + 16 * slot, raw)

    def add(self, readable: list[tuple[int, int]], writable: list[tuple[int, int]]) -> int:
        """Make a chain of (gpa, length) buffers available; its head."""
        parts = [(g, n, 0) for g, n in readable] + [
            (g, n, v.VRING_DESC_F_WRITE) for g, n in writable
        ]
        slots = [(self.next_free + i) % self.size for i in range(len(parts))]
        self.next_free = (self.next_free + len(parts)) % self.size
        for at, (slot, (gpa, length, flags)) in enumerate(zip(slots, parts, strict=True)):
            last = at == len(parts) - 1
            self.put_descriptor(
                slot,
                gpa,
                length,
                flags if last else flags | v.VRING_DESC_F_NEXT,
                0 if last else slots[at + 1],
            )
        self.publish(slots[0])
        return slots[0]

    def publish(self, head: int) -> None:
        """Put ``head`` into the available ring."""
        raw = head.to_bytes(2, "little")
        self.memory.write(self.avail + 4 + 2 * (self.avail_index % self.size), raw)
        self.set_avail_index(self.avail_index + 1)

    def set_avail_index(self, value: int) -> None:
        self.avail_index = value & 0xFFFF
        self.memory.write(self.avail + 2, self.avail_index.to_bytes(2, "little"))

    def set_no_interrupt(self, value: bool) -> None:
        self.memory.write(self.avail, int(value).to_bytes(2, "little"))

    def set_used_event(self, value: int) -> None:
        self.memory.write(self.avail + 4 + 2 * self.size, value.to_bytes(2, "little"))

    @property
    def avail_event(self) -> int:
        return int.from_bytes(self.memory.read(self.used + 4 + 8 * self.size, 2), "little")

    @property
    def no_notify(self) -> bool:
        return bool(self.memory.read(self.used, 2)[0] & 1)

    def take_used(self) -> list[tuple[int, int]]:
        """The (head, written) pairs given back since the last call."""
        index = int.from_bytes(self.memory.read(self.used + 2, 2), "little")
        found = []
        while self.used_index != index:
            at = self.used + 4 + 8 * (self.used_index % self.size)
            found.append(unpack_from("<II", self.memory.read(at, 8)))
            self.used_index = (self.used_index + 1) & 0xFFFF
        return found


class Driver:
    """A whole driver: brings the device up through its registers as Linux does."""

    def __init__(
        self,
        device: VirtioDevice,
        *,
        features: int | None = None,
        memory_size: int = MEMORY_SIZE,
        bring_up: bool = True,
        loop: FakeLoop | None = None,
    ) -> None:
        self.ram = bytearray(memory_size)
        self.memory = GuestMemory([Region(0, memoryview(self.ram))])
        self.loop = loop or FakeLoop()
        self.irqs = 0
        self.warnings: list[str] = []
        self.device = device
        self.transport = VirtioMmio(
            device,
            self.memory,
            self.loop,
            raise_irq=self._irq,
            barrier=lambda: None,
            warn=self.warnings.append,
        )
        self.queues = [
            DriverQueue(self.memory, i, size) for i, size in enumerate(device.queue_sizes)
        ]
        self._next_buffer = BUFFERS
        if bring_up:
            self.bring_up(features)

    def _irq(self) -> None:
        self.irqs += 1

    def read(self, offset: int, size: int = 4) -> int:
        return self.transport.read(offset, size)

    def write(self, offset: int, value: int) -> None:
        self.transport.write(offset, 4, value)

    def config(self, size: int, offset: int = 0) -> bytes:
        return bytes(self.transport.page[0x100 + offset : 0x100 + offset + size])

    @property
    def status(self) -> int:
        return self.read(v.VIRTIO_MMIO_STATUS)

    def negotiate(self, features: int | None = None) -> None:
        """Status 0 to FEATURES_OK; ``features`` None takes all that is offered."""
        self.write(v.VIRTIO_MMIO_STATUS, 0)
        self.write(v.VIRTIO_MMIO_STATUS, 1)
        self.write(v.VIRTIO_MMIO_STATUS, 3)
        offered = 0
        for word in (0, 1):
            self.write(v.VIRTIO_MMIO_DEVICE_FEATURES_SEL, word)
            offered |= self.read(v.VIRTIO_MMIO_DEVICE_FEATURES) << 32 * word
        chosen = offered if features is None else features
        for word in (0, 1):
            self.write(v.VIRTIO_MMIO_DRIVER_FEATURES_SEL, word)
            self.write(v.VIRTIO_MMIO_DRIVER_FEATURES, chosen >> 32 * word & 0xFFFF_FFFF)
        self.write(v.VIRTIO_MMIO_STATUS, 11)

    def bring_up(self, features: int | None = None) -> None:
        """Reset, negotiate, configure every queue, DRIVER_OK."""
        self.negotiate(features)
        for queue in self.queues:
            self.write(v.VIRTIO_MMIO_QUEUE_SEL, queue.index)
            self.write(v.VIRTIO_MMIO_QUEUE_NUM, queue.size)
            for register, value in (
                (v.VIRTIO_MMIO_QUEUE_DESC_LOW, queue.desc),
                (v.VIRTIO_MMIO_QUEUE_AVAIL_LOW, queue.avail),
                (v.VIRTIO_MMIO_QUEUE_USED_LOW, queue.used),
            ):
                self.write(register, value & 0xFFFF_FFFF)
                self.write(register + 4, value >> 32)
            self.write(v.VIRTIO_MMIO_QUEUE_READY, 1)
        self.write(v.VIRTIO_MMIO_STATUS, 15)

    def alloc(self, size: int, data: bytes = b"") -> int:
        """Guest memory for a buffer; its address."""
        gpa = self._next_buffer
        self._next_buffer += (size + 0xFFF) & ~0xFFF
        self.memory.write(gpa, data)
        return gpa

    def notify(self, index: int = 0) -> None:
        """Ring the bell as the machine would deliver it: errors break the device."""
        from pyrovm.errors import GuestError

        try:
            if self.device.active is not None and self.transport.queues[index].ready:
                self.device.process(index)
        except GuestError as error:
            self.transport.fail(str(error))
