"""Memory that is plugged and unplugged while the guest runs (virtio 1.2, section 5.15).

::

    gpa                                   usable                total
     |  slot 0    |  slot 1    |  slot 2    |  slot 3    |  ...   |
     |##..##..    |########    |            |
       blocks: # plugged                     grows with what the host requests

The host requests a size, the guest plugs and unplugs blocks until it has it.  A slot of memory is
put before the guest with its first block and taken away with its last.
"""

from __future__ import annotations

from struct import Struct
from time import monotonic_ns

from pyrovm.abi.virtio import (
    VIRTIO_ID_MEM,
    VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE,
    VIRTIO_MEM_REQ_PLUG,
    VIRTIO_MEM_REQ_STATE,
    VIRTIO_MEM_REQ_UNPLUG,
    VIRTIO_MEM_REQ_UNPLUG_ALL,
    VIRTIO_MEM_RESP_ACK,
    VIRTIO_MEM_RESP_BUSY,
    VIRTIO_MEM_RESP_ERROR,
    VIRTIO_MEM_STATE_MIXED,
    VIRTIO_MEM_STATE_PLUGGED,
    VIRTIO_MEM_STATE_UNPLUGGED,
)
from pyrovm.devices.virtio_mem_blocks import Blocks
from pyrovm.errors import ConfigError, GuestError, HostError, StateError
from pyrovm.virtio.counters import Counters, Latency
from pyrovm.virtio.device import VirtioDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from pyrovm.virtio.device import Activation, Timer
    from pyrovm.virtio.queue import Chain

    class HotplugSlots(Protocol):
        """The machine's side: memory slots of one size, counted from the start of the region."""

        def plug(self, index: int) -> None:
            """Put a slot of memory before the guest and the devices; raises HostError."""

        def unplug(self, index: int) -> None:
            """Take it away again, with all its pages; raises HostError."""

        def discard(self, offset: int, size: int) -> None:
            """Free the pages of a part of a slot that stays; raises HostError."""


MIB = 1 << 20
# block_size, node_id, addr, region_size, usable_region_size, plugged_size, requested_size
CONFIG = Struct("<QH6xQQQQQ")
REQUEST = Struct("<H6xQH6x")  # type, addr, nb_blocks
RESPONSE = Struct("<H6xH")  # type, state
BATCH_REQUESTS = 32  # answered in one wake-up: each may change KVM's memory


class MemCounters(Counters):
    """The ``memory_hotplug`` metrics."""

    __slots__ = (
        "activate_fails",
        "plug_agg",
        "plug_bytes",
        "plug_count",
        "plug_fails",
        "queue_event_count",
        "queue_event_fails",
        "state_agg",
        "state_count",
        "state_fails",
        "unplug_agg",
        "unplug_all_agg",
        "unplug_all_count",
        "unplug_all_fails",
        "unplug_bytes",
        "unplug_count",
        "unplug_discard_fails",
        "unplug_fails",
    )

    activate_fails: int
    plug_agg: Latency
    plug_bytes: int
    plug_count: int
    plug_fails: int
    queue_event_count: int
    queue_event_fails: int
    state_agg: Latency
    state_count: int
    state_fails: int
    unplug_agg: Latency
    unplug_all_agg: Latency
    unplug_all_count: int
    unplug_all_fails: int
    unplug_bytes: int
    unplug_count: int
    unplug_discard_fails: int
    unplug_fails: int


_NAMES = {
    VIRTIO_MEM_REQ_PLUG: "plug",
    VIRTIO_MEM_REQ_UNPLUG: "unplug",
    VIRTIO_MEM_REQ_UNPLUG_ALL: "unplug_all",
    VIRTIO_MEM_REQ_STATE: "state",
}


class _Refused(GuestError):
    """A request that is answered with ERROR, and nothing worse."""


class VirtioMem(VirtioDevice):
    """A region of ``total_mib``, all unplugged.

    The machine says with :meth:`place` where it is and who has the memory, before the guest runs.
    """

    device_id = VIRTIO_ID_MEM

    def __init__(self, total_mib: int, block_mib: int = 2, slot_mib: int = 128) -> None:
        super().__init__("mem")
        self.features |= 1 << VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE
        self.counters = MemCounters()
        self.gpa = 0
        self.requested_size = 0
        self.usable_size = 0
        self.blocks = Blocks(total_mib * MIB, block_mib * MIB, slot_mib * MIB)
        self._slots: HotplugSlots | None = None
        self._present: set[int] = set()  # slots before the guest
        self._again: Timer | None = None  # fires at once: work was left for the next round

    def place(self, gpa: int, slots: HotplugSlots) -> None:
        """The region begins at ``gpa``, aligned to a slot; ``slots`` has its memory."""
        self.gpa = gpa
        self._slots = slots

    def accepts(self, features: int) -> bool:
        # A driver that reads unplugged memory would find none.
        needed = 1 << VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE
        return super().accepts(features) and bool(features & needed)

    def config(self) -> bytes:
        blocks = self.blocks
        return CONFIG.pack(
            blocks.block_size,
            0,
            self.gpa,
            blocks.total_size,
            self.usable_size,
            blocks.plugged_size,
            self.requested_size,
        )

    # ------------------------------------------------------------- for the API

    def request_size(self, size_mib: int) -> None:
        """Ask the guest to have so much of the region plugged.

        Raises:
            StateError: no driver is there to do it.
            ConfigError: the size is no multiple of a block, or above the total.
        """
        if self.active is None:
            raise StateError("Device is not active")
        size = size_mib * MIB
        if size % self.blocks.block_size or size > self.blocks.total_size:
            raise ConfigError(
                f"Size {size} is invalid: it must be a multiple of block size and less than the "
                "total size"
            )
        self.requested_size = size
        # It never shrinks under a driver, but for UNPLUG_ALL (virtio 1.2, 5.15.5.2).
        self.usable_size = max(self.usable_size, self._usable_for(size))
        self.active.interrupts.config()

    def _usable_for(self, size: int) -> int:
        slot_size = self.blocks.slot_size
        return (size + slot_size - 1) // slot_size * slot_size

    @property
    def plugged_mib(self) -> int:
        """What the guest has plugged."""
        return self.blocks.plugged_size // MIB

    @property
    def requested_mib(self) -> int:
        """What the host asked for."""
        return self.requested_size // MIB

    @property
    def present_slots(self) -> list[int]:
        """The slots before the guest: after a restore, the machine has to have plugged these."""
        return sorted(self._present)

    # -------------------------------------------------------------- life cycle

    def activate(self, active: Activation) -> None:
        super().activate(active)
        self._again = active.loop.timer(self._serve)

    def deactivate(self) -> None:
        if self._again is not None:
            self._again.disarm()
            self._again = None
        super().deactivate()

    def state(self) -> dict[str, Any]:
        return {
            "gpa": self.gpa,
            "requested_size": self.requested_size,
            "usable_size": self.usable_size,
            "plugged": self.blocks.ranges(),
            "present": self.present_slots,
        }

    def restore(self, state: dict[str, Any]) -> None:
        blocks = self.blocks
        blocks.restore(state["plugged"])
        self.gpa = state["gpa"]
        self.requested_size = min(state["requested_size"], blocks.total_size)
        self.usable_size = min(state["usable_size"], blocks.total_size)
        last = blocks.total_size // blocks.slot_size
        self._present = {slot for slot in state["present"] if 0 <= slot < last}
        self._present.update(blocks.used_slots())

    # ------------------------------------------------------------------- queue

    def process(self, index: int) -> None:
        self.counters.queue_event_count += 1
        self._serve()

    def _serve(self) -> None:
        active = self.active
        if active is None:
            return
        queue = active.queues[0]
        for _ in range(BATCH_REQUESTS):
            chain = queue.pop()
            if chain is None:
                break
            try:
                kind, gpa, count = parse_request(chain)
            except GuestError:
                self.counters.queue_event_fails += 1
                raise
            answer = RESPONSE.pack(*self._perform(kind, gpa, count))
            # The driver reads plugged_size after the answer.
            active.interrupts.refresh_config()
            queue.push(chain.head, chain.write(answer))
        else:
            assert self._again is not None
            self._again.arm(0.0)
        if queue.needs_signal():
            active.interrupts.queue()

    def _perform(self, kind: int, gpa: int, count: int) -> tuple[int, int]:
        """Do what a request asks for; the type of the answer, and a state."""
        counters, name = self.counters, _NAMES.get(kind)
        if name is None:
            counters.queue_event_fails += 1
            return VIRTIO_MEM_RESP_ERROR, 0
        started = monotonic_ns()
        state = 0
        try:
            if kind == VIRTIO_MEM_REQ_UNPLUG_ALL:
                self._unplug_all()
            else:
                first = self._first_block(gpa, count)
                if kind == VIRTIO_MEM_REQ_STATE:
                    state = self._state_of(first, count)
                elif kind == VIRTIO_MEM_REQ_PLUG:
                    self._plug(first, count)
                else:
                    self._unplug(first, count)
            answer = VIRTIO_MEM_RESP_ACK
        except _Refused:
            answer = VIRTIO_MEM_RESP_ERROR
        except HostError:
            answer = VIRTIO_MEM_RESP_BUSY  # the host may have the memory later
        if answer != VIRTIO_MEM_RESP_ACK:
            setattr(counters, f"{name}_fails", getattr(counters, f"{name}_fails") + 1)
        setattr(counters, f"{name}_count", getattr(counters, f"{name}_count") + 1)
        getattr(counters, f"{name}_agg").add(monotonic_ns() - started)
        return answer, state

    def _first_block(self, gpa: int, count: int) -> int:
        """The number of the block at ``gpa``, of ``count`` that are all in the usable region."""
        block_size = self.blocks.block_size
        offset = gpa - self.gpa
        if count == 0 or offset < 0 or offset % block_size:
            raise _Refused
        if offset + count * block_size > self.usable_size:
            raise _Refused
        return offset // block_size

    def _state_of(self, first: int, count: int) -> int:
        plugged = self.blocks.plugged(first, count)
        if plugged == count:
            return VIRTIO_MEM_STATE_PLUGGED
        return VIRTIO_MEM_STATE_MIXED if plugged else VIRTIO_MEM_STATE_UNPLUGGED

    def _plug(self, first: int, count: int) -> None:
        blocks = self.blocks
        size = count * blocks.block_size
        if blocks.plugged(first, count) or blocks.plugged_size + size > self.requested_size:
            raise _Refused
        new: list[int] = []
        try:
            for slot in blocks.slots_of(first, count):
                if slot not in self._present:
                    self._memory.plug(slot)
                    self._present.add(slot)
                    new.append(slot)
        except HostError:
            for slot in new:
                self._remove_slot(slot)
            raise
        blocks.plug(first, count)
        self.counters.plug_bytes += size

    def _unplug(self, first: int, count: int) -> None:
        blocks = self.blocks
        if blocks.plugged(first, count) != count:
            raise _Refused
        blocks.unplug(first, count)
        self.counters.unplug_bytes += count * blocks.block_size
        for slot in blocks.slots_of(first, count):
            if not blocks.slot_is_used(slot):
                self._remove_slot(slot)
                continue
            try:
                self._memory.discard(*blocks.part_of_slot(slot, first, count))
            except HostError:  # the host gets its pages when the slot goes
                self.counters.unplug_discard_fails += 1

    def _unplug_all(self) -> None:
        self.counters.unplug_bytes += self.blocks.plugged_size
        self.blocks.unplug_all()
        for slot in self.present_slots:
            self._remove_slot(slot)
        self.usable_size = self._usable_for(self.requested_size)

    def _remove_slot(self, slot: int) -> None:
        try:
            self._memory.unplug(slot)
            self._present.discard(slot)
        except HostError:  # it stays before the guest, empty, until it is unplugged once more
            self.counters.unplug_discard_fails += 1

    @property
    def _memory(self) -> HotplugSlots:
        assert self._slots is not None, "the machine has to place the region before the guest runs"
        return self._slots


def parse_request(chain: Chain) -> tuple[int, int, int]:
    """Type, gpa and number of blocks of a request (virtio 1.2, 5.15.6).

    Raises:
        GuestError: it is too short, or has no room for the answer.
    """
    if chain.readable_size < REQUEST.size or chain.writable_size < RESPONSE.size:
        raise GuestError(
            f"mem: a request of {chain.readable_size} and an answer of {chain.writable_size} "
            f"bytes; they need {REQUEST.size} and {RESPONSE.size}"
        )
    kind, gpa, count = REQUEST.unpack(chain.read(0, REQUEST.size))
    return kind, gpa, count
