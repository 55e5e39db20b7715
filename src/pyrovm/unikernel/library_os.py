"""The library OS as a file: compiled once, kept in the cache, its header read."""

from __future__ import annotations

import os

from pyrovm.abi import libos as abi
from pyrovm.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.host.mapping import Mapping

PAGE = 0x1000
LARGEST = 2 << 20  # what one page table maps


class Header:
    """``struct pv_header`` of a file, checked; ``data`` are the initial bytes of its data."""

    def __init__(self, file: bytes | memoryview) -> None:
        """Read it.

        Raises:
            HostError: the file is no library OS of this version.
        """
        size = len(file)
        if size < abi.pv_header.SIZE:
            raise HostError(f"The library OS's file has only {size} bytes")
        raw = abi.pv_header(bytearray(file[: abi.pv_header.SIZE]))
        if raw.magic != abi.PV_HEADER_MAGIC or raw.version != abi.PV_VERSION:
            raise HostError(
                f"The library OS's file is not of version {abi.PV_VERSION} of its interface"
            )
        ends = (raw.text_end, raw.rodata_end, raw.data_end, raw.bss_end)
        if (
            any(end % PAGE for end in ends)
            or list(ends) != sorted(ends)
            or not raw.text_end
            or raw.bss_end > LARGEST
            or raw.data_end != size
        ):
            raise HostError("The library OS's file is damaged")
        self.text_end, self.rodata_end, self.data_end, self.bss_end = ends
        self.entry = raw.entry
        self.syscall_entry = raw.syscall_entry
        self.upcall_entry = raw.upcall_entry
        self.vectors = raw.vectors
        self.fault_entry = raw.fault_entry
        self.return_start, self.return_end = raw.return_start, raw.return_end
        self.return_entry = raw.return_entry
        self.data = bytes(file[raw.rodata_end : raw.data_end])
        self.code_start = abi.PV_LIBOS_VA
        self.code_end = abi.PV_LIBOS_VA + raw.text_end


def open_file(path: str) -> tuple[Mapping, Header]:
    """Map a library OS's file, shared with all VMs of this host.

    Raises:
        HostError: it cannot be read, or is none.
    """
    from pyrovm.host import mapping

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError.wrap(f"Cannot open the library OS {path}", error) from None
    try:
        size = os.fstat(fd).st_size
        if not 0 < size <= LARGEST:
            raise HostError(f"The library OS {path} has {size} bytes")
        mapped = mapping.file(fd, size, writable=False, shared=True)
    finally:
        os.close(fd)
    try:
        return mapped, Header(mapped.view)
    except HostError:
        mapped.close()
        raise
