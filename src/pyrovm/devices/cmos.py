"""The CMOS clock of a PC, for kernels that read the date from it and wait until it answers.

Motorola MC146818: an index at port 0x70, the register at 0x71.  Time is UTC, in BCD, 24 hours.
"""

from __future__ import annotations

from time import gmtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

INDEX, DATA = 0, 1  # offsets from 0x70
NMI_MASK_BIT = 0x80

STATUS_A, STATUS_B, STATUS_C, STATUS_D = 0x0A, 0x0B, 0x0C, 0x0D
CENTURY = 0x32
# A: the usual divider, no update in progress.  B: 24 hours.  D: the battery is good.
CONSTANTS = {STATUS_A: 0x26, STATUS_B: 0x02, STATUS_C: 0, STATUS_D: 0x80}


class Cmos:
    """``now`` gives seconds since 1970."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._index = 0

    def state(self) -> dict[str, int]:
        """The chosen register, as plain data."""
        return {"index": self._index}

    def restore(self, state: dict[str, int]) -> None:
        """Take over a saved choice."""
        self._index = state["index"] & 0x7F

    def read(self, offset: int, size: int) -> int:
        """A guest's read of one byte; the index cannot be read back."""
        if offset != DATA or size != 1:
            return 0xFF
        if self._index in CONSTANTS:
            return CONSTANTS[self._index]
        time = gmtime(self._now())
        fields = {
            0x00: time.tm_sec,
            0x02: time.tm_min,
            0x04: time.tm_hour,
            0x06: (time.tm_wday + 1) % 7 + 1,  # Sunday is 1
            0x07: time.tm_mday,
            0x08: time.tm_mon,
            0x09: time.tm_year % 100,
            CENTURY: time.tm_year // 100,
        }
        return bcd(fields.get(self._index, 0))

    def write(self, offset: int, size: int, value: int) -> None:
        """A guest's write: the index counts, the clock cannot be set."""
        if offset == INDEX and size == 1:
            self._index = value & ~NMI_MASK_BIT


def bcd(value: int) -> int:
    """Two decimal digits, four bits each."""
    return value // 10 << 4 | value % 10
