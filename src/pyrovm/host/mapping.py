"""Host memory that a guest sees: anonymous, memfd or file mappings with a known address."""

from __future__ import annotations

import mmap
import os

from pyrovm.errors import HostError
from pyrovm.host.address import address_of_mapping

MAP_NORESERVE = 0x4000
MAP_HUGETLB = 0x40000
MAP_HUGE_2MB = 21 << 26
PAGE_SIZE = 4096
HUGE_PAGE_SIZE = 2 << 20


class Mapping:
    """An mmap with its host virtual address; it owns the memory until ``close``.

    ``view`` is all of it as bytes; ``address`` is the hva for KVM; ``size`` is in bytes.
    ``file`` is the (descriptor, offset) under which another process can map the same memory.
    ``origin`` and ``base`` say what pages are that nobody has touched: zeros (``anonymous``), what
    the file ``base`` has at an offset (``shared``; ``private`` where writes do not go there), what
    a page-fault handler brings (``served``).
    """

    def __init__(
        self,
        memory: mmap.mmap,
        size: int,
        skip: int = 0,
        file: tuple[int, int] | None = None,
        *,
        origin: str = "",
        base: tuple[int, int] | None = None,
    ) -> None:
        self.origin = origin or ("shared" if file else "anonymous")
        self.base = base or file
        self._mmap = memory
        self._skip = skip
        self.file = file
        self.size = size
        self.address = address_of_mapping(memory) + skip
        self.view = memoryview(memory)[skip : skip + size]

    def part(self, start: int, size: int) -> Mapping:
        """A page-aligned part as a mapping of its own; the memory goes with the last of all."""
        return Mapping(self._mmap, size, self._skip + start, origin=self.origin)

    def advise(self, option: int, start: int, length: int) -> None:
        """madvise(2) on a page-aligned part; ``start`` and ``length`` in bytes."""
        self._mmap.madvise(option, self._skip + start, length)

    def discard(self, start: int, length: int) -> None:
        """Free a page-aligned part: whoever looks there next finds zeros.

        Raises:
            OSError: the host keeps it.
        """
        if self.origin == "private":
            # Dropped pages would come back from the file, with what it says of them.
            from pyrovm.host.libc import map_fixed

            prot, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            address = self.address + start
            map_fixed(address, length, prot, flags | MAP_NORESERVE, -1, 0)
            return
        # Shared pages are the file's: dropping the mapping alone would keep them.
        self.advise(mmap.MADV_REMOVE if self.file else mmap.MADV_DONTNEED, start, length)

    def flush(self, start: int, length: int) -> None:
        """msync(2) of a page-aligned part of a shared file mapping."""
        self._mmap.flush(self._skip + start, length)

    def close(self) -> None:
        """Unmap.  Whoever kept a view of the memory must have released it before."""
        self.view.release()
        try:
            self._mmap.close()
        except BufferError:  # a view or a part is alive: the memory goes with it
            pass
        if self.file is not None:
            os.close(self.file[0])
            self.file = None


def anonymous(size: int, *, huge_pages: str = "None", shared: bool = False) -> Mapping:
    """Zeroed memory of ``size`` bytes, paged in on first touch.

    ``huge_pages`` is the API's word: ``None``, ``Transparent`` (madvise) or ``2M`` (hugetlbfs).
    Transparent memory is aligned to 2 MiB, or its ends could never be huge.

    Raises:
        HostError: there is not enough memory, or no reserved huge pages.
    """
    flags = (mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE) | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    slack = 0
    if huge_pages == "2M":
        # Reserved now: without a reservation an exhausted pool would be a SIGBUS at run time.
        flags = (flags & ~MAP_NORESERVE) | MAP_HUGETLB | MAP_HUGE_2MB
    elif size >= HUGE_PAGE_SIZE:
        slack = HUGE_PAGE_SIZE
    try:
        memory = mmap.mmap(-1, size + slack, flags)
    except (OSError, OverflowError, ValueError) as error:
        if not isinstance(error, OSError):
            error = OSError(12, "Out of memory")
        raise HostError.wrap("Cannot create mmap region", error) from None
    skip = 0
    if slack:
        skip = -address_of_mapping(memory) % HUGE_PAGE_SIZE
    mapping = Mapping(memory, size, skip)
    if huge_pages == "Transparent":
        mapping.advise(mmap.MADV_HUGEPAGE, 0, size)
    return mapping


def memfd(size: int, *, huge_pages: str = "None") -> Mapping:
    """Memory as :func:`anonymous`, that other processes can map too (memfd_create(2)).

    Raises:
        HostError: there is not enough memory, or no reserved huge pages.
    """
    flags = os.MFD_CLOEXEC
    slack = HUGE_PAGE_SIZE if size >= HUGE_PAGE_SIZE else 0
    if huge_pages == "2M":
        flags |= os.MFD_HUGETLB | os.MFD_HUGE_2MB
        slack = 0
    fd = -1
    try:
        fd = os.memfd_create("guest", flags)
        os.ftruncate(fd, size + slack)
        memory = mmap.mmap(fd, size + slack, mmap.MAP_SHARED)
    except (OSError, OverflowError, ValueError) as error:
        if fd >= 0:
            os.close(fd)
        if not isinstance(error, OSError):
            error = OSError(12, "Out of memory")
        raise HostError.wrap("Cannot create mmap region", error) from None
    skip = 0
    if slack:
        skip = -address_of_mapping(memory) % HUGE_PAGE_SIZE
    mapping = Mapping(memory, size, skip, (fd, skip))
    if huge_pages == "Transparent":
        mapping.advise(mmap.MADV_HUGEPAGE, 0, size)
    return mapping


def file(fd: int, size: int, *, offset: int = 0, writable: bool = True, shared: bool) -> Mapping:
    """``size`` bytes of a file from a page-aligned ``offset``; private means copy-on-write.

    A read-only mapping is private to Python's eyes (its buffer must be writable to have an
    address) but is never written by the VMM; KVM is told with a read-only memory slot.

    Raises:
        HostError: the file cannot be mapped.
    """
    flags = mmap.MAP_SHARED if shared and writable else mmap.MAP_PRIVATE | MAP_NORESERVE
    try:
        return Mapping(
            mmap.mmap(fd, size, flags, mmap.PROT_READ | mmap.PROT_WRITE, offset=offset),
            size,
            origin="shared" if flags & mmap.MAP_SHARED else "private",
            base=(fd, offset),
        )
    except (OSError, ValueError) as error:
        if not isinstance(error, OSError):
            error = OSError(22, str(error))
        raise HostError.wrap("Cannot map the file", error) from None
