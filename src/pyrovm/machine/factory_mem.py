"""Memory hotplug from the record of ``/hotplug/memory``."""

from __future__ import annotations

from pyrovm.devices.virtio_mem import VirtioMem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.config.memory_hotplug import MemoryHotplugConfig


def make_memory_hotplug(config: MemoryHotplugConfig) -> VirtioMem:
    """The device, all unplugged; the machine places it before the guest runs."""
    return VirtioMem(config.total_size_mib, config.block_size_mib, config.slot_size_mib)
