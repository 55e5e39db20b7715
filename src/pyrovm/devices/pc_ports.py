"""Ports of QEMU's PC that kernels made for it end themselves by, and ports where nothing is."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PM1_CONTROL = 0x604  # of the ICH9's ACPI block, as QEMU's firmware places it
SLEEP_ENABLE = 1 << 13
DEBUG_EXIT = 0x501
DEBUG_EXIT_SUCCESS = 41  # what Solo5's and Unikraft's kernels say for success


class PowerButton:
    """The ACPI PM1 control register: a write with SLP_EN ends the machine by ``power_off``."""

    def __init__(self, power_off: Callable[[], object]) -> None:
        self._power_off = power_off

    def read(self, offset: int, size: int) -> int:
        """A guest's read."""
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """A guest's write."""
        if offset == 0 and size == 2 and value & SLEEP_ENABLE:
            self._power_off()


class DebugExit:
    """QEMU's isa-debug-exit: any write ends the machine by ``ended(value)``."""

    def __init__(self, ended: Callable[[int], object]) -> None:
        self._ended = ended

    def read(self, offset: int, size: int) -> int:
        """A guest's read."""
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """A guest's write."""
        self._ended(value)


class EmptyPorts:
    """Ports without a device: an ISA bus that nobody drives reads as ones."""

    def read(self, offset: int, size: int) -> int:
        """A guest's read."""
        return (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """A guest's write, which goes nowhere."""
