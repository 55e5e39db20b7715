"""A file as persistent memory: mapped, and padded to the 2 MiB that a guest's kernel asks for.

::

    |<------------ size: a multiple of 2 MiB ------------>|
    |  pages of the file, shared  | anonymous memory      |
    |<- file_size ->| zeroes      |

The padding is memory of this mapping only: a guest that runs past the file's end finds zeroes,
what it writes there is lost, and nothing else of this process is within reach.
"""

from __future__ import annotations

import mmap
import os
import stat

from pyrovm.errors import ConfigError, HostError, os_error
from pyrovm.host.mapping import HUGE_PAGE_SIZE, PAGE_SIZE, Mapping, anonymous

_WHAT = "Cannot create pmem device: Error accessing backing file"


class PmemFile:
    """The file at ``path``; it is opened by :meth:`open`, not before.

    ``size`` and ``file_size`` are in bytes, 0 until then.  ``mapping`` may be closed by whoever
    shows it to the guest as well: closing it twice does no harm.
    """

    def __init__(self, path: str, *, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self.size = 0
        self.file_size = 0
        self.mapping: Mapping | None = None
        self._fd = -1

    def open(self) -> Mapping:
        """Open and map the file.

        Raises:
            HostError: it cannot be opened or mapped.
            ConfigError: it is empty, or no regular file.
        """
        flags = (os.O_RDONLY if self.read_only else os.O_RDWR) | os.O_CLOEXEC
        try:
            # O_NONBLOCK: opening somebody's FIFO must not wait for its other end.
            self._fd = os.open(self.path, flags | os.O_NONBLOCK)
            status = os.fstat(self._fd)
        except OSError as error:
            self.close()
            raise HostError(f"{_WHAT}: {os_error(error)}", error.errno or 0) from None
        try:
            self.mapping = self._map(status)
        except (ConfigError, HostError):
            self.close()
            raise
        return self.mapping

    def _map(self, status: os.stat_result) -> Mapping:
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{_WHAT}: {self.path} is not a regular file")
        if not status.st_size:
            raise ConfigError("Cannot create pmem device: Error backing file size is 0")
        from pyrovm.host.libc import map_fixed

        file_size = status.st_size
        size = _round_up(file_size, HUGE_PAGE_SIZE)
        prot = mmap.PROT_READ if self.read_only else mmap.PROT_READ | mmap.PROT_WRITE
        mapping = anonymous(size)
        try:
            length = _round_up(file_size, PAGE_SIZE)
            map_fixed(mapping.address, length, prot, mmap.MAP_SHARED, self._fd, 0)
        except OSError as error:
            mapping.close()
            raise HostError(
                f"Cannot create pmem device: Error mapping backing file: {os_error(error)}",
                error.errno or 0,
            ) from None
        self.size, self.file_size = size, file_size
        return mapping

    def flush(self) -> None:
        """Write what the guest has written to the disk.

        Not msync(2): it does the same to a shared mapping of this whole file, but Python holds its
        interpreter lock meanwhile, and with it every vCPU that leaves the guest.

        Raises:
            HostError: the disk failed.
        """
        if self.read_only:
            return
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise HostError.wrap(f"{self.path}: cannot be flushed", error) from None

    def close(self) -> None:
        """Unmap and close; idempotent."""
        if self.mapping is not None:
            self.mapping.close()
            self.mapping = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _round_up(value: int, unit: int) -> int:
    return (value + unit - 1) // unit * unit
