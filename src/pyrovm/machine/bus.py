"""Which device answers which port or MMIO address.

Ports are looked up one by one, MMIO by its 4 KiB page: both are one dictionary access for each
exit.  A device is called under its own lock, since several vCPUs and the event loop share it.
"""

from __future__ import annotations

from _thread import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable
    from typing import Protocol

    class BusDevice(Protocol):
        """Anything on a bus; offsets count from the range it was added with."""

        def read(self, offset: int, size: int) -> int:
            """The value of ``size`` bytes at ``offset``."""

        def write(self, offset: int, size: int, value: int) -> None:
            """Take ``size`` bytes at ``offset``."""


class BusEntry:
    """A device on the bus: where it begins, and the lock it is called under."""

    __slots__ = ("base", "device", "lock")

    def __init__(self, device: BusDevice, base: int, lock: LockType) -> None:
        self.device = device
        self.base = base
        self.lock = lock


class Bus:
    """Both address spaces of the guest, read by the vCPU threads.

    ``byte_reads`` and ``byte_writes`` are short cuts for single bytes by port, where there are many
    of them; their keys are from :func:`byte_key`.
    """

    def __init__(self) -> None:
        self.ports: dict[int, BusEntry] = {}
        self.pages: dict[int, BusEntry] = {}
        self.byte_reads: dict[int, Callable[[], int]] = {}
        self.byte_writes: dict[int, Callable[[int], object]] = {}

    def add_ports(
        self, base: int, count: int, device: BusDevice, lock: LockType | None = None
    ) -> None:
        """Let ``device`` answer ``count`` I/O ports from ``base`` on.

        Raises:
            ValueError: another device has one of them.
        """
        self._add(self.ports, range(base, base + count), BusEntry(device, base, lock or new_lock()))

    def add_mmio(
        self, base: int, size: int, device: BusDevice, lock: LockType | None = None
    ) -> None:
        """Let ``device`` answer ``size`` bytes (whole pages) of MMIO from ``base`` on.

        Raises:
            ValueError: another device has one of the pages.
        """
        if base & 0xFFF or size & 0xFFF:
            raise ValueError(f"MMIO range {base:#x} + {size:#x} is not made of pages")
        pages = range(base >> 12, (base + size) >> 12)
        self._add(self.pages, pages, BusEntry(device, base, lock or new_lock()))

    def add_byte_port(
        self, port: int, read: Callable[[], int] | None, write: Callable[[int], object] | None
    ) -> None:
        """Have single bytes read from or written to ``port`` by these, past the device.

        They are counted by the vCPU as others are, but not timed, and do their own locking.
        """
        if read is not None:
            self.byte_reads[byte_key(port, is_write=False)] = read
        if write is not None:
            self.byte_writes[byte_key(port, is_write=True)] = write

    def _add(self, table: dict[int, BusEntry], keys: range, entry: BusEntry) -> None:
        for key in keys:
            if key in table:
                raise ValueError(
                    f"{type(entry.device).__name__} at {entry.base:#x} overlaps "
                    f"{type(table[key].device).__name__} at {table[key].base:#x}"
                )
        for key in keys:
            table[key] = entry


def byte_key(port: int, *, is_write: bool) -> int:
    """The first eight bytes of kvm_run's ``io`` for one byte at ``port``, as one number."""
    direction, size, count = int(is_write), 1, 1
    return direction | size << 8 | port << 16 | count << 32


def new_lock() -> LockType:
    """A lock for one device."""
    return allocate_lock()
