"""Guest-physical addresses past the 64-bit MMIO gap, for persistent and hotplugged memory."""

from __future__ import annotations

from pyrovm.arch.x86.layout import PAST_GAP_END, PAST_GAP_START
from pyrovm.errors import ConfigError


class HighMemory:
    """Hands out ranges from 512 GiB, or from the end of RAM where that lies higher, to 1 TiB."""

    def __init__(self, ram_end: int) -> None:
        self._next = max(PAST_GAP_START, ram_end)

    def allocate(self, size: int, align: int) -> int:
        """The address of ``size`` bytes, a multiple of ``align``.

        Raises:
            ConfigError: there is no room.
        """
        gpa = (self._next + align - 1) // align * align
        if gpa + size > PAST_GAP_END:
            raise ConfigError(
                f"no room for {size >> 20} MiB of pmem or hotplugged memory: "
                f"{(PAST_GAP_END - self._next) >> 20} MiB of guest addresses are left"
            )
        self._next = gpa + size
        return gpa
