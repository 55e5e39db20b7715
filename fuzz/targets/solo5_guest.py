"""A hostile Solo5 guest: hypercalls with any arguments anywhere, and lies in the network ring."""

from __future__ import annotations

from struct import pack_into

from fuzz.source import Source
from pyrovm.errors import GuestError
from pyrovm.solo5.hypercalls import Hypercalls
from pyrovm.solo5.ring import ENTRIES, SIZE, SLOTS, Ring
from tests.unit.solo5.fakes import BLOCK_AT, DATA_AT, TEXT, Disk, FakeHost, Guest, Port
from tests.unit.solo5.fakes import SIZE as MEMORY

MAX_STEPS = 64
POINTERS = (
    *(0, 0x1000, 0x10000, 0xFFFF8, TEXT[0] - 8, TEXT[0], TEXT[1] - 8, TEXT[1], BLOCK_AT, DATA_AT),
    *(MEMORY - 512, MEMORY - 8, MEMORY - 1, MEMORY, MEMORY + SIZE, (1 << 32) - 4, (1 << 64) - 1),
)


def one_input(data: bytes) -> None:
    """Whatever it does: a named error, or only memory changes that it could have made itself."""
    source = Source(data)
    guest, host, disk = Guest(), FakeHost(), Disk()
    nets = {2: Port([b"frame" * 20] * 3), 3: Port(room=1)}
    calls = Hypercalls(guest.window, {1: disk}, nets, host)
    page = guest.memory.slice(MEMORY, 0x10000)
    ring = Ring(page[:SIZE], guest.window, nets, lambda: None)
    reserved = guest.memory.read(0, TEXT[1])
    for _ in range(MAX_STEPS):
        if not source.left:
            break
        try:
            if source.flag():
                _call(source, guest, calls)
            else:
                _ring(source, page, ring)
        except GuestError:
            break
    assert guest.memory.read(0, TEXT[1]) == reserved, "tables, boot information and text"
    assert guest.memory.read(MEMORY + SIZE, 0x10000 - SIZE) == bytes(0x10000 - SIZE)
    assert len(disk.data) == disk.capacity
    assert len(host.console) <= MAX_STEPS * MEMORY


def _call(source: Source, guest: Guest, calls: Hypercalls) -> None:
    guest.put("<5Q", *(_word(source) for _ in range(5)))
    calls.call(source.below(11), BLOCK_AT if source.flag() else source.choice(POINTERS))


def _ring(source: Source, page: memoryview, ring: Ring) -> None:
    for _ in range(source.below(4)):
        at = ENTRIES + source.below(SLOTS) * 32
        pack_into(
            "<IIQII", page, at, source.below(4), source.below(5), _word(source),
            _word(source) & 0xFFFF_FFFF, source.u8(),
        )  # fmt: skip
    pack_into("<II", page, 0, source.edge(32), source.edge(32))
    ring.is_idle()
    ring.woken()
    assert ring.serve() <= SLOTS


def _word(source: Source) -> int:
    kind = source.below(3)
    if kind == 0:
        return source.choice(POINTERS)
    return source.edge() if kind == 1 else source.below(8)


SEEDS = [
    b"",
    bytes([1, 2, 3, 2, 1, 0, 9, 2, 2, 2, 1]) * 8,
    bytes([0, 3, 5, 0, 1, 2, 0, 9, 1, 17, 4, 40, 41]) * 4,
    bytes(range(256)),
]
