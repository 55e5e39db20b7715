"""``/hotplug/memory``: memory that is added while the machine runs (virtio-mem)."""

from __future__ import annotations

from pyrovm.config.record import Record
from pyrovm.config.serde.schema import optional, required, struct, u32
from pyrovm.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BLOCK_SIZE_MIB = 2  # smallest and default
SLOT_SIZE_MIB = 128  # smallest and default


class MemoryHotplugConfig(Record):
    """Sizes in MiB: of the region, of the guest's unit, of the host's unit (a memory slot)."""

    __slots__ = ("block_size_mib", "slot_size_mib", "total_size_mib")

    def __init__(
        self,
        *,
        total_size_mib: int,
        block_size_mib: int = BLOCK_SIZE_MIB,
        slot_size_mib: int = SLOT_SIZE_MIB,
    ) -> None:
        self.total_size_mib = total_size_mib
        self.block_size_mib = block_size_mib
        self.slot_size_mib = slot_size_mib

    def to_json(self) -> Any:
        return {
            "total_size_mib": self.total_size_mib,
            "block_size_mib": self.block_size_mib,
            "slot_size_mib": self.slot_size_mib,
        }


class MemoryHotplugUpdate(Record):
    """How much of the region the guest shall have, in MiB."""

    __slots__ = ("requested_size_mib",)

    def __init__(self, *, requested_size_mib: int) -> None:
        self.requested_size_mib = requested_size_mib


def check_memory_hotplug(config: MemoryHotplugConfig) -> None:
    """Check the three sizes: block, slot, total, in this order.

    Raises:
        ConfigError: one is too small or no multiple of its unit.
    """
    block, slot, total = config.block_size_mib, config.slot_size_mib, config.total_size_mib
    if block < BLOCK_SIZE_MIB:
        raise ConfigError(f"Block size must not be lower than {BLOCK_SIZE_MIB} MiB")
    if block & (block - 1):
        raise ConfigError("Block size must be a power of 2")
    if slot < SLOT_SIZE_MIB:
        raise ConfigError(f"Slot size must not be lower than {SLOT_SIZE_MIB} MiB")
    if slot % block:
        raise ConfigError(f"Slot size must be a multiple of block size ({block} MiB)")
    if total < slot:
        raise ConfigError(f"Total size must not be lower than slot size ({slot} MiB)")
    if total % slot:
        raise ConfigError(f"Total size must be a multiple of slot size ({slot} MiB)")


MEMORY_HOTPLUG_CONFIG = struct(
    "MemoryHotplugConfig",
    (
        required("total_size_mib", u32),
        optional("block_size_mib", u32, BLOCK_SIZE_MIB),
        optional("slot_size_mib", u32, SLOT_SIZE_MIB),
    ),
    MemoryHotplugConfig,
)
MEMORY_HOTPLUG_UPDATE = struct(
    "MemoryHotplugSizeUpdate", (required("requested_size_mib", u32),), MemoryHotplugUpdate
)
