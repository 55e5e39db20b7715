"""Which blocks of a hot-plug region are plugged, and which memory slots that takes.

A block is the unit of the guest, a slot the unit of the host: a slot is there for the guest while
at least one of its blocks is plugged.  Pure bookkeeping; sizes are in bytes, blocks and slots are
counted from the start of the region.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Blocks:
    """A region of ``total_size`` bytes, of which nothing is plugged yet."""

    def __init__(self, total_size: int, block_size: int, slot_size: int) -> None:
        self.block_size = block_size
        self.slot_size = slot_size
        self.total_size = total_size
        self._plugged = bytearray(total_size // block_size)  # one byte, 0 or 1, for each block
        self._per_slot = slot_size // block_size
        self.plugged_size = 0

    def plugged(self, first: int, count: int) -> int:
        """How many of ``count`` blocks from ``first`` on are plugged."""
        return self._plugged.count(1, first, first + count)

    def plug(self, first: int, count: int) -> None:
        """Plug blocks of which none is plugged."""
        self._plugged[first : first + count] = b"\1" * count
        self.plugged_size += count * self.block_size

    def unplug(self, first: int, count: int) -> None:
        """Unplug blocks that are all plugged."""
        self._plugged[first : first + count] = bytes(count)
        self.plugged_size -= count * self.block_size

    def unplug_all(self) -> None:
        """Unplug whatever is plugged."""
        self._plugged[:] = bytes(len(self._plugged))
        self.plugged_size = 0

    def slots_of(self, first: int, count: int) -> range:
        """The slots that ``count`` blocks from ``first`` on lie in."""
        return range(first // self._per_slot, (first + count - 1) // self._per_slot + 1)

    def slot_is_used(self, slot: int) -> bool:
        """Whether a block of ``slot`` is plugged."""
        return self.plugged(slot * self._per_slot, self._per_slot) > 0

    def used_slots(self) -> list[int]:
        """The slots with plugged blocks."""
        return [s for s in range(self.total_size // self.slot_size) if self.slot_is_used(s)]

    def part_of_slot(self, slot: int, first: int, count: int) -> tuple[int, int]:
        """The part of blocks ``first`` and following in ``slot``: offset and size in bytes."""
        start = max(first, slot * self._per_slot)
        end = min(first + count, (slot + 1) * self._per_slot)
        return start * self.block_size, (end - start) * self.block_size

    def ranges(self) -> list[list[int]]:
        """The plugged blocks as [first, count] pairs, to save."""
        found = []
        start = self._plugged.find(1)
        while start >= 0:
            end = self._plugged.find(0, start)
            if end < 0:
                end = len(self._plugged)
            found.append([start, end - start])
            start = self._plugged.find(1, end)
        return found

    def restore(self, ranges: Iterable[Iterable[int]]) -> None:
        """Take over what :meth:`ranges` gave.

        Raises:
            ValueError: a range is outside the region, or overlaps another.
        """
        self.unplug_all()
        for first, count in ranges:
            if first < 0 or count <= 0 or first + count > len(self._plugged):
                raise ValueError(f"{count} blocks from {first} on in {len(self._plugged)}")
            if self.plugged(first, count):
                raise ValueError(f"{count} blocks from {first} on are plugged twice")
            self.plug(first, count)
