"""The split virtqueue: rings full of anything, drained by the simplest device there is."""

from __future__ import annotations

from fuzz.devices import Harness
from fuzz.source import Source
from pyrovm.devices.virtio_rng import VirtioRng
from pyrovm.memory.guest_memory import GuestMemory, GuestMemoryError, Region
from pyrovm.virtio.queue import Queue, QueueError

SIZES = (1, 2, 4, 8, 16, 256, 0, 3, 512)
MEMORY_SIZE = 0x8000


def one_input(data: bytes) -> None:
    """An even first byte attacks a bare queue in raw memory, an odd one a device with a driver."""
    if data and data[0] & 1:
        Harness(lambda: VirtioRng(lambda size: b"\xaa" * size), Source(data[1:])).run()
    else:
        _bare_queue(Source(data[1:]))


def _bare_queue(source: Source) -> None:
    ram = bytearray(MEMORY_SIZE)
    memory = GuestMemory([Region(0, memoryview(ram))])
    queue = Queue(0, 256)
    queue.ready = True
    queue.size = size = source.choice(SIZES)
    queue.desc = source.below(4) * 8 + 0x1000
    queue.avail = 0x4000 + source.below(4)
    queue.used = 0x6000 + source.below(4) * 2 if source.u8() & 7 else MEMORY_SIZE - source.below(64)
    event_idx = source.flag()
    flags = source.u8()
    avail_index = source.u8() if flags & 1 else source.below(9)
    memory.write(queue.avail, (flags >> 1 & 1).to_bytes(2, "little"))
    memory.write(queue.avail + 2, avail_index.to_bytes(2, "little"))
    heads = source.take(16)
    for slot, head in enumerate(heads):
        memory.write(queue.avail + 4 + 2 * slot, (head % 20).to_bytes(2, "little"))
    for slot in range(16):
        if not source.left:
            break
        gpa = source.edge() if source.u8() & 7 == 0 else source.below(MEMORY_SIZE)
        record = gpa.to_bytes(8, "little") + (source.edge(32)).to_bytes(4, "little")
        record += (source.u8() & 7).to_bytes(2, "little") + source.below(20).to_bytes(2, "little")
        memory.write(queue.desc + 16 * slot, record)
    try:
        queue.activate(memory, event_idx, lambda: None)
    except (QueueError, GuestMemoryError):
        return
    assert size & (size - 1) == 0
    _drain(queue, size)


def _drain(queue: Queue, size: int) -> None:
    for taken in range(size + 1):
        try:
            pending = queue.pending
            chain = queue.pop()
        except (QueueError, GuestMemoryError):
            return
        assert (chain is None) == (pending == 0)
        assert taken <= size
        if chain is None:
            assert queue.enable_notifications() is False
            break
        assert pending <= size
        assert len(chain.readable) + len(chain.writable) <= size
        assert chain.readable_size == sum(map(len, chain.readable))
        assert chain.writable_size == sum(map(len, chain.writable))
        assert len(chain.read(0, 100)) == min(100, chain.readable_size)
        queue.undo_pop()
        again = queue.pop()
        assert again is not None
        assert again.head < size
        queue.push(again.head, again.writable_size & 0xFFFF_FFFF)
        queue.needs_signal()
        assert not queue.needs_signal(), "nothing new was pushed"
    saved = queue.state()
    other = Queue(0, 256)
    other.restore(saved)
    assert other.state() == saved


SEEDS = [
    b"\x00\x04\x00\x00\x01\x00\x00\x03" + bytes(16) + b"\x01\x10\x00\x10\x00\x00" * 16,
    b"\x00\x03\x00\x00\x01\x01\x00\x01"
    + bytes(16)
    + b"\x01\x10\x00\x10\x01\x01\x01\x20\x00\x10\x02\x00",
    b"\x01\x03\x00\x00\x01\x00\x00\x08hi\x0d\x00",
    b"\x01" + b"\x03\x01\x01\x00\x10\x10\x00\x20\x10\x00\x00\x00\x0b\x01\x0c\x0a\x02" * 3,
]
