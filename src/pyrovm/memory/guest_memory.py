"""Guest-physical memory: the one door between guest addresses and host bytes.

Every access is bounds-checked against the regions, and every address comes from the guest, so a
miss is a :class:`~pyrovm.errors.GuestError`.  Views that this class hands out are of the guest's
own memory: the guest changes it while we look.  Whoever decides on something copies it first.
"""

from __future__ import annotations

from pyrovm.errors import GuestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from _typeshed import ReadableBuffer

PAGE_SHIFT = 12


class GuestMemoryError(GuestError):
    """A guest-physical range that is not, or not wholly, in memory."""


class Region:
    """``size`` bytes of guest memory from ``gpa`` on; ``hva`` is where the host has them.

    ``file`` is the (descriptor, offset) for another process to map them, where there is one.
    """

    __slots__ = ("end", "file", "gpa", "hva", "size", "view")

    def __init__(
        self, gpa: int, view: memoryview, hva: int = 0, file: tuple[int, int] | None = None
    ) -> None:
        self.gpa = gpa
        self.view = view
        self.size = len(view)
        self.end = gpa + self.size
        self.hva = hva
        self.file = file

    def __repr__(self) -> str:
        return f"Region({self.gpa:#x}..{self.end:#x})"


class GuestMemory:
    """All memory of one guest.

    ``regions`` must not overlap.  With dirty tracking on, every range handed out by
    :meth:`writable` or changed by :meth:`write` is remembered by page: KVM's dirty log sees only
    what the guest writes, and a snapshot or a migration needs both.
    """

    def __init__(self, regions: Iterable[Region]) -> None:
        self._regions: list[Region] = []
        self._dirty: set[int] | None = None
        self._low = memoryview(b"")
        self._low_end = 0
        for region in regions:
            self.add(region)

    @property
    def regions(self) -> Sequence[Region]:
        """The regions in the order of their addresses."""
        return tuple(self._regions)

    @property
    def size(self) -> int:
        """Bytes in all regions."""
        return sum(r.size for r in self._regions)

    def add(self, region: Region) -> None:
        """Make ``region`` part of the memory.

        Raises:
            ValueError: it overlaps one that is there.
        """
        for other in self._regions:
            if region.gpa < other.end and other.gpa < region.end:
                raise ValueError(f"{region} overlaps {other}")
        self._regions.append(region)
        self._regions.sort(key=lambda r: r.gpa)
        self._find_low()

    def remove(self, region: Region) -> None:
        """Take ``region`` out again; views of it stay valid, addresses in it no longer are."""
        self._regions.remove(region)
        self._find_low()

    def _find_low(self) -> None:
        first = self._regions[0] if self._regions else None
        if first is not None and first.gpa == 0:
            self._low, self._low_end = first.view, first.end
        else:
            self._low, self._low_end = memoryview(b""), 0

    def slice(self, gpa: int, size: int) -> memoryview:
        """The live bytes of a range, to read from.  hot: per descriptor.

        Raises:
            GuestMemoryError: part of the range is not memory.
        """
        end = gpa + size
        if gpa >= 0 and end <= self._low_end and size >= 0:
            return self._low[gpa:end]
        return self._find(gpa, size)

    def writable(self, gpa: int, size: int) -> memoryview:
        """The live bytes of a range, to write to; marks them dirty.  hot: per descriptor.

        Raises:
            GuestMemoryError: part of the range is not memory.
        """
        if self._dirty is not None and size > 0:
            view = self.slice(gpa, size)
            self._dirty.update(range(gpa >> PAGE_SHIFT, ((gpa + size - 1) >> PAGE_SHIFT) + 1))
            return view
        end = gpa + size
        if gpa >= 0 and end <= self._low_end and size >= 0:
            return self._low[gpa:end]
        return self._find(gpa, size)

    def _find(self, gpa: int, size: int) -> memoryview:
        if size >= 0:
            for region in self._regions:
                if region.gpa <= gpa and gpa + size <= region.end:
                    start = gpa - region.gpa
                    return region.view[start : start + size]
        raise GuestMemoryError(f"guest range {gpa:#x} + {size:#x} is not in memory")

    def read(self, gpa: int, size: int) -> bytes:
        """A copy of a range.

        Raises:
            GuestMemoryError: part of the range is not memory.
        """
        return bytes(self.slice(gpa, size))

    def write(self, gpa: int, data: ReadableBuffer) -> None:
        """Copy ``data`` into a range.

        Raises:
            GuestMemoryError: part of the range is not memory.
        """
        raw = memoryview(data)
        self.writable(gpa, raw.nbytes)[:] = raw if raw.format == "B" else raw.cast("B")

    def hva(self, gpa: int, size: int) -> int:
        """The host virtual address of a range, for the kernel (vhost, KVM).

        Raises:
            GuestMemoryError: part of the range is not memory.
        """
        for region in self._regions:
            if region.gpa <= gpa and 0 <= size <= region.end - gpa and region.hva:
                return region.hva + gpa - region.gpa
        raise GuestMemoryError(f"guest range {gpa:#x} + {size:#x} is not in memory")

    def track_dirty(self, enabled: bool) -> None:
        """Start (from clean) or stop remembering the pages that the VMM itself writes."""
        self._dirty = set() if enabled else None

    def mark_dirty(self, gpa: int, size: int) -> None:
        """Remember a range that was written through a view kept from earlier.  hot: per request."""
        if self._dirty is not None and size > 0:
            self._dirty.update(range(gpa >> PAGE_SHIFT, ((gpa + size - 1) >> PAGE_SHIFT) + 1))

    @property
    def tracks_dirty(self) -> bool:
        """Whether :meth:`mark_dirty` has an effect."""
        return self._dirty is not None

    def take_dirty(self) -> set[int]:
        """The page numbers (gpa >> 12) written by the VMM since the last call."""
        if self._dirty is None:
            return set()
        dirty, self._dirty = self._dirty, set()
        return dirty

    def release(self) -> None:
        """Let go of every view, so that the mappings behind them can be closed."""
        self._low = memoryview(b"")
        self._low_end = 0
        for region in self._regions:
            region.view.release()
        self._regions.clear()
