"""Guest memory of a snapshot, for a machine that is restored: a file, or a page-fault handler."""

from __future__ import annotations

import mmap
import os

from pyrovm.arch.x86.layout import ram_ranges
from pyrovm.errors import ConfigError, HostError, SnapshotError
from pyrovm.host import mapping
from pyrovm.machine.controller import HUGE_PAGES_FROM_FILE
from pyrovm.snapshot import working_set
from pyrovm.snapshot.memory import open_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.host.mapping import Mapping
    from pyrovm.machine.loop import EventLoop
    from pyrovm.snapshot.layout import Layout


class MemoryOfFile:
    """The memory file at ``path``; the guest's writes stay its own.  It must not change meanwhile.

    ``huge_pages`` is the API's word for the new machine.  The file stays open until :meth:`close`,
    for later snapshots of what is still in it.  Its working set, if it has one, is read ahead.

    Raises:
        ConfigError: memory of reserved huge pages cannot be mapped from a file.
        HostError, SnapshotError: as :func:`pyrovm.snapshot.memory.open_file`.
    """

    def __init__(self, path: str, layout: Layout, mem_size_mib: int, huge_pages: str) -> None:
        if huge_pages == "2M":
            raise ConfigError(HUGE_PAGES_FROM_FILE)
        self.ranges = ram_of(layout, mem_size_mib)
        self._huge_pages = huge_pages
        self._path = path
        self._fd = open_file(path, layout)
        self._mapped: list[tuple[int, Mapping]] = []
        self.records = False  # whether what the guest touches is to be remembered
        try:
            self.records = working_set.is_wanted(path)
            working_set.read_ahead(self._fd, working_set.load(path))
        except HostError:  # a hint: without it the guest waits for its pages one by one
            pass

    def map(self, saved_at: int, size: int) -> Mapping:
        """The memory that was saved from offset ``saved_at`` on.

        Raises:
            HostError: it cannot be mapped.
        """
        made = mapping.file(self._fd, size, offset=saved_at, shared=False)
        if self._huge_pages == "Transparent":
            made.advise(mmap.MADV_HUGEPAGE, 0, size)
        self._mapped.append((saved_at, made))
        return made

    def record(self) -> None:
        """Remember what the guest has touched, the first time that this is called."""
        if self.records:
            self.records = False
            try:
                working_set.record(self._path, self._mapped)
            except HostError:  # as above
                pass

    def start(self) -> None:
        """Nothing is to be done: the kernel has the pages."""

    def close(self) -> None:
        """Close the file; what is mapped stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class MemoryOfHandler:
    """Memory whose pages the handler that listens at ``path`` brings; it lives as long as we do.

    Raises:
        HostError, SnapshotError: as :func:`pyrovm.snapshot.uffd.restore`.
    """

    def __init__(self, path: str, layout: Layout, mem_size_mib: int, huge_pages: str) -> None:
        from pyrovm.snapshot import uffd

        self.ranges = ram_of(layout, mem_size_mib)
        self._layout = layout
        self._mappings, self.handler = uffd.restore(path, layout, huge_pages)
        for each in self._mappings:
            each.origin = "served"
        self._loop: EventLoop | None = None

    def map(self, saved_at: int, size: int) -> Mapping:
        """The memory that was saved from offset ``saved_at`` on."""
        for r, each in zip(self._layout.ranges, self._mappings, strict=True):
            if r.offset <= saved_at and saved_at + size <= r.offset + r.size:
                return each.part(saved_at - r.offset, size)
        raise AssertionError(f"{saved_at:#x} + {size:#x} is in no range of the layout")

    def start(self) -> None:
        """Nothing is to be done: the handler knows already."""

    def watch(self, loop: EventLoop, on_death: Callable[[str], None]) -> None:
        """Call ``on_death`` with the reason when there is no handler any more."""
        self._loop, watch = loop, self.handler.watch

        def look(_events: int) -> None:
            reason = watch.death()
            if reason:
                on_death(reason)

        loop.watch(watch.fileno(), look)

    def stop_faults(self) -> None:
        """The vCPUs have ended: nobody is to wait for a page any more."""
        self.handler.stop_faults(self._mappings)

    def close(self) -> None:
        """Let go of handler and memory; no machine uses them any more."""
        if self._loop is not None:
            self._loop.unwatch(self.handler.watch.fileno())
        for each in self._mappings:
            each.close()
        self.handler.close()


def ram_of(layout: Layout, mem_size_mib: int) -> list[tuple[int, int]]:
    """(gpa, size) of the RAM proper in ``layout``; behind it is what can be plugged.

    Raises:
        SnapshotError: it is not the RAM of a machine with so much memory.
    """
    wanted = ram_ranges(mem_size_mib << 20)
    found = [(r.gpa, r.size) for r in layout.ranges[: len(wanted)]]
    if found != wanted:
        raise SnapshotError(
            f"Snapshot state is invalid: memory at {found}; a machine with {mem_size_mib} MiB has "
            f"it at {wanted}"
        )
    return found
