"""The "system memory" pool, 0x9fc00 to 0xe0000: where MP and ACPI tables and such find room.

Tables grow from below, each at the lowest address that fits; what must lie high (VM generation
id, VMClock page) is placed from above.  Guests look for the MP table in the first KiB, so it has to
be placed first.
"""

from __future__ import annotations

from pyrovm.arch.x86.layout import SYSTEM_MEMORY, SYSTEM_MEMORY_END


class SystemMemory:
    """An allocator that never frees; addresses are guest-physical, sizes in bytes."""

    __slots__ = ("_free",)

    def __init__(self, start: int = SYSTEM_MEMORY, end: int = SYSTEM_MEMORY_END) -> None:
        self._free = [(start, end)]

    def first_fit(self, size: int, align: int = 1) -> int:
        """The lowest free address, a multiple of ``align``.

        Raises:
            ValueError: there is no room.
        """
        for start, end in self._free:
            gpa = -(-start // align) * align
            if gpa + size <= end:
                return self._take(gpa, size)
        raise self._full(size)

    def last_fit(self, size: int, align: int = 1) -> int:
        """The highest free address, a multiple of ``align``.

        Raises:
            ValueError: there is no room.
        """
        for start, end in reversed(self._free):
            gpa = (end - size) // align * align
            if gpa >= start:
                return self._take(gpa, size)
        raise self._full(size)

    def _take(self, gpa: int, size: int) -> int:
        left = []
        for start, end in self._free:
            if start <= gpa and gpa + size <= end:
                left += [(start, gpa), (gpa + size, end)]
            else:
                left.append((start, end))
        self._free = [(start, end) for start, end in left if start < end]
        return gpa

    def _full(self, size: int) -> ValueError:
        return ValueError(f"no room for {size} bytes in the system memory pool: {self._free}")
