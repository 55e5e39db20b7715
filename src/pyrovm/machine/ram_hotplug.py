"""The memory behind virtio-mem: slots of one size that come and go while the guest runs."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.host.mapping import Mapping
    from pyrovm.machine.ram import MemorySlot, Ram


class HotplugRam:
    """Slots of ``slot_size`` bytes, ``total_size`` in all, from ``gpa`` on; none there at first.

    A slot that is not plugged is no memory at all: neither the guest nor a device can reach it.
    ``on_change`` is called after every change of what is there.
    """

    def __init__(
        self,
        ram: Ram,
        gpa: int,
        total_size: int,
        slot_size: int,
        on_change: Callable[[], object],
    ) -> None:
        self._ram = ram
        ram.hotplug = (gpa, total_size)
        self._gpa = gpa
        self._slot_size = slot_size
        self._on_change = on_change
        self._slots: dict[int, MemorySlot] = {}

    def plug(self, index: int) -> None:
        """Put slot ``index`` before the guest and the devices.

        Raises:
            HostError: there is no memory for it, or KVM refused it.
        """
        self.put(index, self._ram.map_new(self._slot_size))
        self._on_change()

    def put(self, index: int, mapping: Mapping) -> None:
        """Make slot ``index`` of a mapping that has contents, of a snapshot say.

        Raises:
            HostError: KVM refused it.
        """
        start = index * self._slot_size
        saved_at = sum(size for _, size in self._ram.ranges) + start
        self._slots[index] = self._ram.add(self._gpa + start, mapping, saved_at=saved_at)

    def unplug(self, index: int) -> None:
        """Take slot ``index`` away again, with all its pages.

        Raises:
            HostError: KVM refused.
        """
        self._ram.remove(self._slots.pop(index))
        self._on_change()

    def discard(self, offset: int, size: int) -> None:
        """Free the pages of a part of a slot that stays; ``offset`` counts from the region's start.

        Raises:
            HostError: the host keeps them.
        """
        index, start = divmod(offset, self._slot_size)
        self._slots[index].discard(start, size)
