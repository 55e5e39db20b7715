"""virtio over MMIO, version 2 (virtio 1.2, section 4.2).

All registers that a driver reads are plain functions of the device's state, so they are kept as
bytes in a 4 KiB ``page``.  The machine lets the guest read that page directly (a read-only memory
slot): a read costs no exit at all, only writes reach :meth:`VirtioMmio.write`.  Where that is not
possible, :meth:`VirtioMmio.read` answers from the same bytes.

Driver status moves one step at a time, 0 - 1 - 3 - 11 - 15; anything else is ignored with a
warning.  FAILED may be added at any time, and 0 resets.
"""

from __future__ import annotations

from struct import Struct

from pyrovm.abi.virtio import (
    VIRTIO_CONFIG_S_ACKNOWLEDGE,
    VIRTIO_CONFIG_S_DRIVER,
    VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_CONFIG_S_FAILED,
    VIRTIO_CONFIG_S_FEATURES_OK,
    VIRTIO_CONFIG_S_NEEDS_RESET,
    VIRTIO_MMIO_CONFIG,
    VIRTIO_MMIO_CONFIG_GENERATION,
    VIRTIO_MMIO_DEVICE_FEATURES,
    VIRTIO_MMIO_DEVICE_FEATURES_SEL,
    VIRTIO_MMIO_DEVICE_ID,
    VIRTIO_MMIO_DRIVER_FEATURES,
    VIRTIO_MMIO_DRIVER_FEATURES_SEL,
    VIRTIO_MMIO_INT_CONFIG,
    VIRTIO_MMIO_INT_VRING,
    VIRTIO_MMIO_INTERRUPT_ACK,
    VIRTIO_MMIO_INTERRUPT_STATUS,
    VIRTIO_MMIO_MAGIC_VALUE,
    VIRTIO_MMIO_QUEUE_AVAIL_HIGH,
    VIRTIO_MMIO_QUEUE_AVAIL_LOW,
    VIRTIO_MMIO_QUEUE_DESC_HIGH,
    VIRTIO_MMIO_QUEUE_DESC_LOW,
    VIRTIO_MMIO_QUEUE_NOTIFY,
    VIRTIO_MMIO_QUEUE_NUM,
    VIRTIO_MMIO_QUEUE_NUM_MAX,
    VIRTIO_MMIO_QUEUE_READY,
    VIRTIO_MMIO_QUEUE_SEL,
    VIRTIO_MMIO_QUEUE_USED_HIGH,
    VIRTIO_MMIO_QUEUE_USED_LOW,
    VIRTIO_MMIO_STATUS,
    VIRTIO_MMIO_VENDOR_ID,
    VIRTIO_MMIO_VERSION,
    VIRTIO_RING_F_EVENT_IDX,
)
from pyrovm.errors import GuestError, HostError
from pyrovm.virtio.device import Activation
from pyrovm.virtio.queue import Queue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pyrovm.memory.guest_memory import GuestMemory
    from pyrovm.virtio.device import Loop, VirtioDevice

PAGE_SIZE = 0x1000
MAGIC = 0x74726976  # "virt"
SHM_REGISTERS = (0xB0, 0xB4, 0xB8, 0xBC)  # length and base of a shared memory region: none

ACKNOWLEDGED = VIRTIO_CONFIG_S_ACKNOWLEDGE
DRIVER = ACKNOWLEDGED | VIRTIO_CONFIG_S_DRIVER
FEATURES_OK = DRIVER | VIRTIO_CONFIG_S_FEATURES_OK
DRIVER_OK = FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK
STEPS = {0: ACKNOWLEDGED, ACKNOWLEDGED: DRIVER, DRIVER: FEATURES_OK, FEATURES_OK: DRIVER_OK}

_ADDRESSES = {
    VIRTIO_MMIO_QUEUE_DESC_LOW: ("desc", 0),
    VIRTIO_MMIO_QUEUE_DESC_HIGH: ("desc", 32),
    VIRTIO_MMIO_QUEUE_AVAIL_LOW: ("avail", 0),
    VIRTIO_MMIO_QUEUE_AVAIL_HIGH: ("avail", 32),
    VIRTIO_MMIO_QUEUE_USED_LOW: ("used", 0),
    VIRTIO_MMIO_QUEUE_USED_HIGH: ("used", 32),
}

_WORD = Struct("<I")


class VirtioMmio:
    """The registers of one device, and the driver's progress through them.

    ``raise_irq`` signals the device's interrupt line; ``warn`` gets a sentence about a driver
    that breaks a rule.  Calls must not overlap: the owner locks.
    """

    def __init__(
        self,
        device: VirtioDevice,
        memory: GuestMemory,
        loop: Loop,
        *,
        raise_irq: Callable[[], object],
        barrier: Callable[[], object],
        warn: Callable[[str], object],
        page: memoryview | None = None,
        kicks: Sequence[int] = (),
        calls: Sequence[int] = (),
    ) -> None:
        self.device = device
        self.page = page if page is not None else memoryview(bytearray(PAGE_SIZE))
        self._memory = memory
        self._loop = loop
        self._raise_irq = raise_irq
        self._barrier = barrier
        self._warn = warn
        self.kicks, self.calls = kicks, calls
        self.queues = [Queue(i, size) for i, size in enumerate(device.queue_sizes)]
        self.broken: str | None = None  # why the device is marked NEEDS_RESET
        self._config_size = 0
        self._put(VIRTIO_MMIO_MAGIC_VALUE, MAGIC)
        self._put(VIRTIO_MMIO_VERSION, 2)
        self._put(VIRTIO_MMIO_DEVICE_ID, device.device_id)
        self._put(VIRTIO_MMIO_VENDOR_ID, 0)
        for offset in SHM_REGISTERS:
            self._put(offset, 0xFFFF_FFFF)
        self._power_on()

    def _power_on(self) -> None:
        self._status = 0
        self._driver_features = 0
        self._features_sel = 0
        self._queue_sel = 0
        self._always_pending = 0
        self.broken = None
        for queue in self.queues:
            queue.reset()
        self._put(VIRTIO_MMIO_STATUS, 0)
        self._put(VIRTIO_MMIO_INTERRUPT_STATUS, 0)
        self._put(VIRTIO_MMIO_DEVICE_FEATURES, self.device.features & 0xFFFF_FFFF)
        self._select_queue(0)
        self._copy_config()

    def _put(self, offset: int, value: int) -> None:
        _WORD.pack_into(self.page, offset, value)

    def _get(self, offset: int) -> int:
        value: int = _WORD.unpack_from(self.page, offset)[0]
        return value

    # ------------------------------------------------------------ for devices

    def queue(self) -> None:
        """Tell the driver of used buffers.  hot: per batch."""
        self._interrupt(VIRTIO_MMIO_INT_VRING)

    def config(self) -> None:
        """Tell the driver of a changed configuration space."""
        self.refresh_config()
        if self._status & VIRTIO_CONFIG_S_DRIVER_OK:
            self._interrupt(VIRTIO_MMIO_INT_CONFIG)

    def refresh_config(self) -> None:
        """Show the driver the configuration space as it is now."""
        # The driver reads without us, so the generation moves before and after the change: a
        # reader that overlaps it sees a difference and reads again.
        self._bump_generation()
        self._copy_config()
        self._bump_generation()

    def leave_to_kernel(self) -> None:
        """Report used buffers for ever: the kernel interrupts without telling us.

        A driver looks into its queues at every interrupt then, also at one for the configuration;
        that costs it little, while setting the bit by hand would bring every interrupt to us.
        """
        self._always_pending = VIRTIO_MMIO_INT_VRING
        self.page[VIRTIO_MMIO_INTERRUPT_STATUS] |= VIRTIO_MMIO_INT_VRING

    def _interrupt(self, bit: int) -> None:
        page = self.page
        page[VIRTIO_MMIO_INTERRUPT_STATUS] |= bit
        self._raise_irq()

    def _bump_generation(self) -> None:
        generation = self._get(VIRTIO_MMIO_CONFIG_GENERATION)
        self._put(VIRTIO_MMIO_CONFIG_GENERATION, (generation + 1) & 0xFFFF_FFFF)

    def _copy_config(self) -> None:
        config = self.device.config()
        self._config_size = len(config)
        self.page[VIRTIO_MMIO_CONFIG : VIRTIO_MMIO_CONFIG + len(config)] = config

    @property
    def is_active(self) -> bool:
        """Whether the device's queues may be processed."""
        return self.device.active is not None

    def fail(self, reason: str) -> None:
        """Mark the device NEEDS_RESET (virtio 1.2, 2.1.2) and stop touching its queues."""
        self._warn(f"{self.device.name}: {reason}; device needs reset")
        self.broken = reason
        self._deactivate()
        self._status |= VIRTIO_CONFIG_S_NEEDS_RESET
        self._put(VIRTIO_MMIO_STATUS, self._status)
        if self._status & VIRTIO_CONFIG_S_DRIVER_OK:
            self._interrupt(VIRTIO_MMIO_INT_CONFIG)

    # --------------------------------------------------------------- registers

    def read(self, offset: int, size: int) -> int:
        """A driver's read that was not served from the page directly."""
        return int.from_bytes(self.page[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """A driver's write; whatever is against the rules is ignored with a warning."""
        if offset >= VIRTIO_MMIO_CONFIG:
            self._write_config(offset - VIRTIO_MMIO_CONFIG, size, value)
            return
        if size != 4:
            self._warn(f"{self.device.name}: {size}-byte write to register {offset:#x}")
            return
        if offset == VIRTIO_MMIO_INTERRUPT_ACK:
            if self._status & VIRTIO_CONFIG_S_DRIVER_OK:
                page = self.page
                pending = page[VIRTIO_MMIO_INTERRUPT_STATUS] & ~value
                page[VIRTIO_MMIO_INTERRUPT_STATUS] = pending | self._always_pending
        elif offset == VIRTIO_MMIO_STATUS:
            self._write_status(value)
        elif offset == VIRTIO_MMIO_QUEUE_SEL:
            self._select_queue(value)
        elif offset == VIRTIO_MMIO_DEVICE_FEATURES_SEL:
            word = self.device.features >> 32 * value if value < 2 else 0
            self._put(VIRTIO_MMIO_DEVICE_FEATURES, word & 0xFFFF_FFFF)
        elif offset == VIRTIO_MMIO_DRIVER_FEATURES_SEL:
            self._features_sel = value
        elif offset == VIRTIO_MMIO_DRIVER_FEATURES:
            self._write_features(value)
        elif offset in (VIRTIO_MMIO_QUEUE_NUM, VIRTIO_MMIO_QUEUE_READY) or offset in _ADDRESSES:
            self._write_queue(offset, value)
        elif offset == VIRTIO_MMIO_QUEUE_NOTIFY:
            # Reached only without ioeventfd (or with a queue number that has none).
            self._warn(f"{self.device.name}: notification of unknown queue {value}")
        else:
            self._warn(f"{self.device.name}: write to unknown register {offset:#x}")

    def _write_config(self, offset: int, size: int, value: int) -> None:
        if not self._status & VIRTIO_CONFIG_S_DRIVER:
            self._warn(f"{self.device.name}: configuration written before DRIVER")
            return
        if offset + size > self._config_size:
            self._warn(f"{self.device.name}: configuration written at {offset:#x}, past its end")
            return
        self.device.write_config(offset, value.to_bytes(size, "little"))
        self._copy_config()

    def _select_queue(self, index: int) -> None:
        self._queue_sel = index
        queue = self.queues[index] if index < len(self.queues) else None
        self._put(VIRTIO_MMIO_QUEUE_NUM_MAX, queue.max_size if queue else 0)
        self._put(VIRTIO_MMIO_QUEUE_READY, int(queue.ready) if queue else 0)

    def _write_features(self, value: int) -> None:
        if self._status != DRIVER:
            self._warn(f"{self.device.name}: features written at status {self._status:#x}")
        elif self._features_sel < 2:
            shift = 32 * self._features_sel
            kept = self._driver_features & ~(0xFFFF_FFFF << shift)
            offered = self.device.features & (value << shift)
            if offered != value << shift:
                self._warn(f"{self.device.name}: features {value << shift:#x} were not all offered")
            self._driver_features = kept | offered

    def _write_queue(self, offset: int, value: int) -> None:
        if self._status != FEATURES_OK:
            self._warn(f"{self.device.name}: queue configured at status {self._status:#x}")
            return
        if self._queue_sel >= len(self.queues):
            self._warn(f"{self.device.name}: queue {self._queue_sel} does not exist")
            return
        queue = self.queues[self._queue_sel]
        if offset == VIRTIO_MMIO_QUEUE_NUM:
            queue.size = value & 0xFFFF
        elif offset == VIRTIO_MMIO_QUEUE_READY:
            queue.ready = value == 1
            self._put(VIRTIO_MMIO_QUEUE_READY, int(queue.ready))
        else:
            field, shift = _ADDRESSES[offset]
            kept = getattr(queue, field) & ~(0xFFFF_FFFF << shift)
            setattr(queue, field, kept | value << shift)

    # ------------------------------------------------------------------ status

    def _write_status(self, value: int) -> None:
        value &= 0xFF
        if value == 0:
            self._deactivate()
            self._power_on()
        elif value & VIRTIO_CONFIG_S_FAILED:
            self._status |= VIRTIO_CONFIG_S_FAILED
            self._deactivate()
        elif STEPS.get(self._status) == value:
            if value == FEATURES_OK and not self.device.accepts(self._driver_features):
                self._warn(
                    f"{self.device.name}: features {self._driver_features:#x} are not enough"
                )
                return  # FEATURES_OK stays clear: virtio 1.2, 3.1.1 step 6
            self._status = value
            if value == DRIVER_OK:
                self._activate()
        elif value != self._status:
            self._warn(f"{self.device.name}: status {self._status:#x} cannot become {value:#x}")
        self._put(VIRTIO_MMIO_STATUS, self._status)

    def _activate(self) -> None:
        try:
            for queue in self.queues:
                if queue.ready:
                    queue.activate(
                        self._memory,
                        bool(self._driver_features >> VIRTIO_RING_F_EVENT_IDX & 1),
                        self._barrier,
                    )
            self.device.activate(
                Activation(
                    self._memory,
                    self.queues,
                    self._driver_features,
                    self,
                    self._loop,
                    self.kicks,
                    self.calls,
                )
            )
        except (GuestError, HostError) as error:
            self.fail(f"cannot be activated: {error}")

    def _deactivate(self) -> None:
        if self.device.active is not None:
            self.device.deactivate()
        self._always_pending = 0
        for queue in self.queues:
            queue.deactivate()

    # ------------------------------------------------------------------- state

    def state(self) -> dict[str, Any]:
        """Transport, queues and device as plain data; rings are in guest memory."""
        device = self.device.state()  # first: what it still finishes moves the queues
        return {
            "status": self._status,
            "driver_features": self._driver_features,
            "features_sel": self._features_sel,
            "queue_sel": self._queue_sel,
            "interrupt_status": self.page[VIRTIO_MMIO_INTERRUPT_STATUS],
            "generation": self._get(VIRTIO_MMIO_CONFIG_GENERATION),
            "broken": self.broken,
            "queues": [queue.state() for queue in self.queues],
            "device": device,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Become what was saved; an active device is activated again, nothing is processed yet.

        Raises:
            GuestError: the saved queues do not fit guest memory.
            KeyError, TypeError, ValueError: this is not a saved state of this device.
        """
        if len(state["queues"]) != len(self.queues):
            raise ValueError(
                f"{self.device.name}: {len(state['queues'])} queues saved, has {len(self.queues)}"
            )
        lost = state["driver_features"] & ~self.device.features
        if lost:
            raise ValueError(
                f"{self.device.name}: the driver relies on features {lost:#x}, which this device "
                f"does not offer (it offers {self.device.features:#x})"
            )
        self._deactivate()
        self._power_on()
        self.device.restore(state["device"])
        self._status = state["status"]
        self._driver_features = state["driver_features"]
        self._features_sel = state["features_sel"]
        for queue, saved in zip(self.queues, state["queues"], strict=True):
            queue.restore(saved)
        self._select_queue(state["queue_sel"])
        self._copy_config()
        self._put(VIRTIO_MMIO_STATUS, self._status)
        self._put(VIRTIO_MMIO_INTERRUPT_STATUS, state["interrupt_status"])
        self._put(VIRTIO_MMIO_CONFIG_GENERATION, state["generation"])
        self.broken = state["broken"]
        if self._status == DRIVER_OK:
            self._activate()

    def repeat_interrupt(self) -> None:
        """Interrupt again for what the driver has not acknowledged: a save may lose an edge."""
        if self.page[VIRTIO_MMIO_INTERRUPT_STATUS]:
            self._raise_irq()
