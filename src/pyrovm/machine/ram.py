"""The guest's memory on the host: mappings, the GuestMemory over them, and KVM's memory slots."""

from __future__ import annotations

from pyrovm.abi.kvm import KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY
from pyrovm.arch.x86.layout import ram_ranges
from pyrovm.errors import ConfigError, HostError
from pyrovm.host.mapping import Mapping, anonymous, memfd
from pyrovm.memory.guest_memory import GuestMemory, Region

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyrovm.kvm.vm import Vm

    MakeMapping = Callable[[int, int], Mapping]

MIB = 1 << 20


class MemorySlot:
    """One KVM memory slot and its mapping; ``region`` is None where devices may not go.

    ``saved_at`` is its offset in the memory file of a snapshot, None where it is not part of one.
    """

    __slots__ = ("gpa", "mapping", "number", "readonly", "region", "saved_at")

    def __init__(
        self,
        number: int,
        gpa: int,
        mapping: Mapping,
        region: Region | None,
        readonly: bool,
        saved_at: int | None = None,
    ) -> None:
        self.saved_at = saved_at
        self.number = number
        self.gpa = gpa
        self.mapping = mapping
        self.region = region
        self.readonly = readonly

    def discard(self, start: int, size: int) -> None:
        """Give whole pages back to the host; ``start`` counts from the slot's own.

        Raises:
            HostError: the host keeps them.
        """
        try:
            self.mapping.discard(start, size)
        except OSError as error:
            raise HostError.wrap(f"guest memory at {self.gpa + start:#x}", error) from None


class Ram:
    """Owns every mapping that the guest sees, and closes them.

    ``memory`` is what devices may reach; ``ranges`` are the (gpa, size) of the RAM proper, for the
    memory map.
    """

    def __init__(self, vm: Vm, *, track_dirty_pages: bool = False) -> None:
        self._vm = vm
        self.track_dirty_pages = track_dirty_pages
        self.memory = GuestMemory([])
        self.ranges: list[tuple[int, int]] = []
        self.slots: dict[int, MemorySlot] = {}
        self.hotplug: tuple[int, int] | None = None  # (gpa, size) of what may be plugged there
        self.huge_pages = "None"
        self._shared = False
        if track_dirty_pages:
            self.memory.track_dirty(True)

    def allocate(self, size_mib: int, huge_pages: str, *, shared: bool = False) -> None:
        """The RAM proper, around both MMIO gaps; ``shared`` with other processes (vhost-user).

        Raises:
            ConfigError: the host has not that much memory.
            HostError: the mapping or the memory slot was refused.
        """
        check_host_has(size_mib)
        self._shared = shared
        ranges = ram_ranges(size_mib * MIB)
        self.fill(ranges, lambda _at, size: self.map_new(size), huge_pages=huge_pages)

    def fill(
        self, ranges: Sequence[tuple[int, int]], make: MakeMapping, *, huge_pages: str
    ) -> None:
        """The RAM proper of mappings that ``make`` gives, perhaps with contents.

        It is called with the offset in a snapshot's memory file, and the size.

        Raises:
            HostError: as ``make`` says, or the memory slot was refused.
        """
        self.huge_pages = huge_pages
        self.ranges = list(ranges)
        saved_at = 0
        for gpa, size in ranges:
            self.add(gpa, make(saved_at, size), saved_at=saved_at)
            saved_at += size

    def map_new(self, size: int) -> Mapping:
        """Zeroed memory of the same kind as the RAM proper, ``size`` in bytes.

        Raises:
            HostError: there is not enough.
        """
        make = memfd if self._shared else anonymous
        return make(size, huge_pages=self.huge_pages)

    def add(
        self,
        gpa: int,
        mapping: Mapping,
        *,
        readonly: bool = False,
        for_devices: bool = True,
        saved_at: int | None = None,
    ) -> MemorySlot:
        """Show ``mapping`` to the guest at ``gpa``; it is closed with this slot.

        Raises:
            HostError: the kernel refused the slot.
        """
        number = next(n for n in range(len(self.slots) + 1) if n not in self.slots)
        flags = KVM_MEM_READONLY if readonly else 0
        if self.track_dirty_pages and saved_at is not None:
            flags |= KVM_MEM_LOG_DIRTY_PAGES
        try:
            self._vm.set_memory(number, gpa, mapping.size, mapping.address, flags)
        except Exception:
            mapping.close()
            raise
        region = None
        if for_devices:
            region = Region(gpa, mapping.view, mapping.address, mapping.file)
        if region is not None:
            self.memory.add(region)
        slot = MemorySlot(number, gpa, mapping, region, readonly, saved_at)
        self.slots[number] = slot
        return slot

    def saved_slots(self) -> list[MemorySlot]:
        """The slots that are part of a snapshot, in the order of its memory file."""
        found = [slot for slot in self.slots.values() if slot.saved_at is not None]
        return sorted(found, key=lambda slot: slot.saved_at or 0)

    def saved_ranges(self) -> list[tuple[int, int]]:
        """(gpa, size) of all that a memory file has room for, one behind the other."""
        return [*self.ranges, *([self.hotplug] if self.hotplug else [])]

    def remove(self, slot: MemorySlot) -> None:
        """Take a slot from the guest and free its memory."""
        self._vm.set_memory(slot.number, slot.gpa, 0, slot.mapping.address)
        del self.slots[slot.number]
        if slot.region is not None:
            self.memory.remove(slot.region)
        slot.mapping.close()

    def discard(self, gpa: int, size: int) -> None:
        """Give whole pages back to the host; the guest finds them zeroed when it touches them.

        Raises:
            HostError: the range is not in one slot, or the host keeps the pages.
        """
        for slot in self.slots.values():
            start = gpa - slot.gpa
            if 0 <= start <= slot.mapping.size - size and not slot.readonly:
                slot.discard(start, size)
                return
        raise HostError(f"guest range {gpa:#x} + {size:#x} is not in one memory slot")

    def close(self) -> None:
        """Free all memory; the VM must not run any more."""
        self.memory.release()
        for slot in self.slots.values():
            slot.mapping.close()
        self.slots.clear()


def check_host_has(size_mib: int) -> None:
    """Refuse a guest larger than all memory and swap of the host.

    Pages are committed only when touched, so any smaller guest may be started; a single one above
    this bound could only end in the host's out-of-memory killer.

    Raises:
        ConfigError: with the words that a failed mmap would have had.
    """
    total_kib = 0
    try:
        with open("/proc/meminfo", "rb") as meminfo:
            for line in meminfo:
                if line.startswith((b"MemTotal:", b"SwapTotal:")):
                    total_kib += int(line.split()[1])
    except OSError:  # no /proc in a jail: then the kernel's own answer has to do
        return
    if size_mib * 1024 > total_kib:
        raise ConfigError(
            "Invalid Memory Configuration: Cannot create mmap region: Out of memory (os error 12): "
            f"{size_mib} MiB asked, memory and swap of this host are {total_kib // 1024} MiB"
        )
