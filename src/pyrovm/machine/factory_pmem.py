"""Persistent memory from the records of ``/pmem``."""

from __future__ import annotations

from pyrovm.backends.pmem_file import PmemFile
from pyrovm.devices.virtio_pmem import VirtioPmem
from pyrovm.machine.factory_limiter import make_limiter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.config.pmem import PmemConfig


def make_pmem(config: PmemConfig) -> VirtioPmem:
    """The device; its file is opened by ``backing.open()`` when there is a machine to put it in."""
    backing = PmemFile(config.path_on_host, read_only=config.read_only)
    return VirtioPmem(config.id, backing, make_limiter(config.rate_limiter))
