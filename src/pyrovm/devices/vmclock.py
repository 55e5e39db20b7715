"""VMClock: a page that tells the guest that its time line was interrupted (Linux, vmclock-abi.h).

No time is offered, only two counters: the disruption marker and the VM generation counter.  A
guest may map the page into its processes, which read it between two looks at an even, unchanged
sequence count.
"""

from __future__ import annotations

from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.arch.x86.system_memory import SystemMemory
    from pyrovm.memory.guest_memory import GuestMemory

SIZE = 0x1000  # bytes, and the alignment

MAGIC = 0x4B4C4356  # "VCLK"
VERSION = 1
COUNTER_INVALID = 0xFF  # no counter to compute time from
TIME_UTC = 0
FLAG_VM_GEN_COUNTER_PRESENT, FLAG_NOTIFICATION_PRESENT = 1 << 8, 1 << 9

# magic, size, version, counter id, time type, seq_count, disruption_marker, flags
_HEAD = Struct("<IIHBBIQQ")
_U32, _U64 = Struct("<I"), Struct("<Q")
SEQ_COUNT, DISRUPTION_MARKER, VM_GENERATION_COUNTER = 0x0C, 0x10, 0x68


def place(pool: SystemMemory) -> int:
    """Where a new machine has its page; after the VM generation id."""
    return pool.last_fit(SIZE, SIZE)


class VmClock:
    """The page at ``gpa``; ``raise_irq`` pulses its line."""

    def __init__(self, memory: GuestMemory, gpa: int, raise_irq: Callable[[], object]) -> None:
        self.gpa = gpa
        self._memory = memory
        self._raise_irq = raise_irq

    def start(self) -> None:
        """Write the page, before the guest runs."""
        page = bytearray(SIZE)
        flags = FLAG_VM_GEN_COUNTER_PRESENT | FLAG_NOTIFICATION_PRESENT
        _HEAD.pack_into(page, 0, MAGIC, SIZE, VERSION, COUNTER_INVALID, TIME_UTC, 0, 0, flags)
        self._memory.write(self.gpa, page)

    def restored(self) -> None:
        """Count a disruption in restored memory and tell the guest.

        Its vCPUs stand still meanwhile, so the order of the writes is for the reader's eye only.
        """
        page = self._memory.writable(self.gpa, SIZE)
        # What was saved is the guest's memory: it may have written anything there, so the counters
        # wrap instead of overflowing.  An odd count would make readers wait for ever.
        (sequence,) = _U32.unpack_from(page, SEQ_COUNT)
        _U32.pack_into(page, SEQ_COUNT, (sequence | 1) & 0xFFFFFFFF)
        for counter in (DISRUPTION_MARKER, VM_GENERATION_COUNTER):
            (value,) = _U64.unpack_from(page, counter)
            _U64.pack_into(page, counter, (value + 1) & 0xFFFF_FFFF_FFFF_FFFF)
        _U32.pack_into(page, SEQ_COUNT, ((sequence | 1) + 1) & 0xFFFFFFFF)
        self._raise_irq()
