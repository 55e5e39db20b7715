"""Guest memory of a snapshot, for a machine that is restored: a file mapped privately."""

from __future__ import annotations

import mmap
import os

from pyrovm.arch.x86.layout import ram_ranges
from pyrovm.errors import ConfigError, SnapshotError
from pyrovm.host import mapping
from pyrovm.machine.controller import HUGE_PAGES_FROM_FILE
from pyrovm.snapshot.memory import open_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.host.mapping import Mapping
    from pyrovm.snapshot.memory import Layout


class MemoryOfFile:
    """The memory file at ``path``; the guest's writes stay its own.  It must not change meanwhile.

    ``huge_pages`` is the API's word for the new machine.  The file stays open until :meth:`close`,
    for later snapshots of what is still in it.

    Raises:
        ConfigError: memory of reserved huge pages cannot be mapped from a file.
        HostError, SnapshotError: as :func:`pyrovm.snapshot.memory.open_file`.
    """

    def __init__(self, path: str, layout: Layout, mem_size_mib: int, huge_pages: str) -> None:
        if huge_pages == "2M":
            raise ConfigError(HUGE_PAGES_FROM_FILE)
        self.ranges = ram_of(layout, mem_size_mib)
        self._huge_pages = huge_pages
        self._fd = open_file(path, layout)

    def map(self, saved_at: int, size: int) -> Mapping:
        """The memory that was saved from offset ``saved_at`` on.

        Raises:
            HostError: it cannot be mapped.
        """
        made = mapping.file(self._fd, size, offset=saved_at, shared=False)
        if self._huge_pages == "Transparent":
            made.advise(mmap.MADV_HUGEPAGE, 0, size)
        return made

    def start(self) -> None:
        """Nothing is to be done: the kernel has the pages."""

    def close(self) -> None:
        """Close the file; what is mapped stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


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
