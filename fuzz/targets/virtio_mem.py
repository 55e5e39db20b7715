"""Memory hot-plug: any requests of the driver, any wishes of the host."""

from __future__ import annotations

from struct import pack

from fuzz.devices import Harness
from fuzz.source import Source
from pyrovm.devices.virtio_mem import MIB, VirtioMem
from pyrovm.errors import ConfigError, HostError, StateError

GPA = 1 << 39
TOTAL_MIB, BLOCK_MIB, SLOT_MIB = 512, 2, 128


class Slots:
    """Knows which slots are there; sometimes the host has no memory."""

    def __init__(self, faulty: bool) -> None:
        self.present: set[int] = set()
        self._faulty = faulty
        self._calls = 0

    def _maybe_fail(self) -> None:
        self._calls += 1
        if self._faulty and self._calls % 3 == 0:
            raise HostError("mmap: Out of memory", 12)

    def plug(self, index: int) -> None:
        """A slot that was not there."""
        assert 0 <= index < TOTAL_MIB // SLOT_MIB
        assert index not in self.present
        self._maybe_fail()
        self.present.add(index)

    def unplug(self, index: int) -> None:
        """A slot that was there."""
        assert index in self.present
        self._maybe_fail()
        self.present.remove(index)

    def discard(self, offset: int, size: int) -> None:
        """Part of a slot that stays."""
        assert size > 0
        assert offset // (SLOT_MIB * MIB) == (offset + size - 1) // (SLOT_MIB * MIB)
        assert offset // (SLOT_MIB * MIB) in self.present
        self._maybe_fail()


def request(source: Source) -> tuple[bytes, int]:
    """A request, mostly within the region and aligned."""
    kind = source.below(5)
    offset = source.below(TOTAL_MIB // BLOCK_MIB + 2) * BLOCK_MIB * MIB
    if source.u8() & 7 == 0:
        offset = source.edge() - GPA
    count = source.below(80) if source.u8() & 7 else source.edge(16)
    gpa = (GPA + offset) & ((1 << 64) - 1)
    return pack("<H6xQH6x", kind, gpa, count), source.choice((10, 10, 10, 16, 9, 0))


def one_input(data: bytes) -> None:
    """What is plugged never exceeds what the host asked for or what it had been, and its slots
    are before the guest.
    """
    source = Source(data)
    options = source.u8()
    slots = Slots(faulty=bool(options & 1))

    def make() -> VirtioMem:
        device = VirtioMem(TOTAL_MIB, BLOCK_MIB, SLOT_MIB)
        device.place(GPA, slots)
        return device

    def host(device: VirtioMem) -> None:
        try:
            device.request_size(source.below(TOTAL_MIB // 2 + 2) * 2)
        except (StateError, ConfigError):
            pass

    harness = Harness(make, source, request, host=host)  # type: ignore[arg-type]
    device = harness.driver.device
    assert isinstance(device, VirtioMem)

    def check() -> None:
        assert slots.present == set(device.present_slots)
        assert set(device.blocks.used_slots()) <= slots.present
        size = device.blocks.block_size
        assert device.blocks.plugged_size == size * sum(n for _, n in device.blocks.ranges())
        assert device.blocks.plugged_size <= device.usable_size <= device.blocks.total_size

    harness.run(check)
    harness.finish()


SEEDS = [
    b"\x00\x0e\x80"
    + b"\x00\x00\x00\x00\x01\x10\x01\x00\x00" * 2
    + b"\x00\x03\x00\x00\x01\x20\x01\x00\x00",
    b"\x00\x0e\x80\x00\x00\x00\x00\x01\x50\x01\x00\x00\x00\x01\x00\x00\x01\x10\x01\x00\x00",
    b"\x00\x0e\x80\x00\x00\x20\x00\x01\x40\x01\x00\x00\x0c\x00\x02\x00\x00\x01\x00\x01\x00\x00",
    b"\x01\x0e\x80\x00\x00\x20\x00\x01\x4f\x01\x00\x00\x00\x00\x20\x00\x01\x4f\x01\x00\x00\x0b\x01",
]
