"""Which pages of guest memory have changed since the last snapshot.

KVM's log knows what the guest wrote and forgets it when it is asked; :class:`GuestMemory` knows
what we wrote.  Both are gathered here until a snapshot has got them safely into a file.
"""

from __future__ import annotations

from pyrovm.snapshot.pages import PAGE, runs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.kvm.vm import Vm
    from pyrovm.machine.ram import MemorySlot, Ram

_FLAGS = bytes(int(code == ord("1")) for code in range(256))


class DirtyPages:
    """The pages of a machine whose memory slots are logged; one bit a page, by slot."""

    def __init__(self, vm: Vm, ram: Ram) -> None:
        self._vm = vm
        self._ram = ram
        self._bits: dict[MemorySlot, int] = {}

    def collect(self) -> None:
        """Take over what was logged since the last call; the guest stands still.

        Raises:
            HostError: KVM did not tell.
        """
        slots = self._ram.saved_slots()
        known = {slot: self._bits.get(slot, 0) for slot in slots}  # others are gone
        self._bits = known
        for slot in slots:
            known[slot] |= int.from_bytes(self._vm.dirty_log(slot.number).cast("B"), "little")
        ours = sorted(self._ram.memory.take_dirty())
        for slot in slots:
            first, end = slot.gpa // PAGE, (slot.gpa + slot.mapping.size) // PAGE
            for page in ours:
                if first <= page < end:
                    known[slot] |= 1 << page - first

    def ranges(self, slot: MemorySlot) -> list[tuple[int, int]]:
        """The collected pages of a slot: (start, end) in bytes from its beginning."""
        digits = bin(self._bits.get(slot, 0))[:1:-1]  # the lowest first
        flags = digits.encode().translate(_FLAGS)
        return [(first * PAGE, end * PAGE) for first, end in runs(flags)]

    def forget(self) -> None:
        """What was collected is in a file now."""
        self._bits.clear()
