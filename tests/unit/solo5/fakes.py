"""A Solo5 guest's memory and its host, without either."""

from struct import pack, unpack_from

from pyrovm.memory.guest_memory import GuestMemory, Region
from pyrovm.solo5.window import Window

SIZE = 0x200000
BLOCK_AT, DATA_AT = 0x110000, 0x120000
TEXT = (0x100000, 0x101000)


class Disk:
    def __init__(self, capacity=4096, fails=False):
        self.capacity = capacity
        self.data = bytearray(capacity)
        self.fails = fails

    def read(self, view, offset):
        assert offset + len(view) <= self.capacity
        view[:] = self.data[offset : offset + len(view)]
        return not self.fails

    def write(self, view, offset):
        assert offset + len(view) <= self.capacity
        self.data[offset : offset + len(view)] = view
        return not self.fails


class Port:
    """Frames that wait, frames that were sent; ``room`` of them can be."""

    def __init__(self, waiting=(), room=1000):
        self.waiting = list(waiting)
        self.sent = []
        self.room = room

    def read(self, view):
        if not self.waiting:
            return 0
        frame = self.waiting.pop(0)[: len(view)]
        view[: len(frame)] = frame
        return len(frame)

    def write(self, view):
        if len(self.sent) >= self.room:
            return False
        self.sent.append(bytes(view))
        return True


class FakeHost:
    def __init__(self):
        self.console = b""
        self.waits = []
        self.ready = []

    def wall_clock(self):
        return 1_700_000_000_123_456_789

    def write_console(self, data):
        self.console += bytes(data)

    def wait(self, timeout_ns):
        self.waits.append(timeout_ns)
        return self.ready


class Guest:
    """Memory with arguments in it."""

    def __init__(self):
        self.memory = GuestMemory([Region(0, memoryview(bytearray(SIZE + 0x10000)))])
        self.window = Window(self.memory, SIZE, [TEXT])

    def put(self, layout, *values, at=BLOCK_AT):
        self.memory.write(at, pack(layout, *values))
        return at

    def get(self, layout, at=BLOCK_AT):
        return unpack_from(layout, self.memory.slice(at, 64))
