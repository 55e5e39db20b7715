"""The split virtqueue, device side (virtio 1.2, section 2.7).

The driver's three rings lie in guest memory and the driver may change them at any time, also
against the rules.  A descriptor is therefore copied once, checked, and never read again; every
walk is bounded by the queue size; a broken rule is a GuestError, which costs the guest its device.

Order of memory accesses.  x86 keeps loads in order among loads and stores among stores, so
"index after ring entry" needs nothing.  What it does not keep is a load after an earlier store:
publishing ``avail_event`` (or clearing NO_NOTIFY) and then looking at the available index again,
and publishing the used index and then looking at ``used_event``.  Between those stands
``barrier``, a callable that the owner supplies, since Python has no fence of its own.
"""

from __future__ import annotations

from struct import Struct

from pyrovm.abi.virtio import (
    VRING_AVAIL_F_NO_INTERRUPT,
    VRING_DESC_F_INDIRECT,
    VRING_DESC_F_NEXT,
    VRING_DESC_F_WRITE,
    VRING_USED_F_NO_NOTIFY,
)
from pyrovm.errors import GuestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypedDict

    from pyrovm.memory.guest_memory import GuestMemory

    class QueueState(TypedDict):
        """What a queue is, besides the rings in guest memory."""

        size: int
        ready: bool
        desc: int
        avail: int
        used: int
        next_avail: int
        next_used: int


DESCRIPTOR = Struct("<QIHH")  # address, length, flags, next
MAX_CHAIN_BYTES = 1 << 32  # virtio 1.2, 2.7.5: a chain holds no more than 2**32 bytes

_descriptor_at = DESCRIPTOR.unpack_from


class QueueError(GuestError):
    """The driver set up or used a queue against the rules."""


class Chain:
    """One request: live views of what the device may read, then of what it may write.

    ``head`` identifies it when it is given back; sizes are in bytes.  ``writable_at`` has the gpa
    of each writable view, for who fills it later than :meth:`Queue.pop` marked it dirty.
    """

    __slots__ = ("head", "readable", "readable_size", "writable", "writable_at", "writable_size")

    def __init__(self, head: int) -> None:
        self.head = head
        self.readable: list[memoryview] = []
        self.writable: list[memoryview] = []
        self.writable_at: list[int] = []
        self.readable_size = 0
        self.writable_size = 0

    def read(self, offset: int, size: int) -> bytes:
        """A copy of up to ``size`` readable bytes from ``offset`` on, across descriptors."""
        return b"".join(part(self.readable, offset, size))

    def write(self, data: bytes, offset: int = 0) -> int:
        """Copy ``data`` into the writable bytes from ``offset`` on; how much fitted."""
        done = 0
        for view in part(self.writable, offset, len(data)):
            view[:] = data[done : done + len(view)]
            done += len(view)
        return done


def part(views: list[memoryview], offset: int, size: int) -> list[memoryview]:
    """The views of bytes ``offset`` to ``offset + size`` of a scattered buffer."""
    found = []
    for view in views:
        length = len(view)
        if offset < length:
            piece = view[offset : offset + size]
            found.append(piece)
            size -= len(piece)
            if not size:
                break
            offset = 0
        else:
            offset -= length
    return found


class Queue:
    """One virtqueue: configured by the transport, used by the device after ``activate``."""

    def __init__(self, index: int, max_size: int) -> None:
        self.index = index
        self.max_size = max_size
        self.reset()

    def reset(self) -> None:
        """Back to the state after power-on."""
        self.size = self.max_size
        self.ready = False
        self.desc = 0
        self.avail = 0
        self.used = 0
        self.next_avail = 0
        self.next_used = 0
        self.deactivate()

    def deactivate(self) -> None:
        """Forget the views of guest memory."""
        empty = memoryview(b"")
        self._signalled = 0
        self._event_idx = False
        self._memory: GuestMemory | None = None
        self._desc = self._avail = self._used = self._ring = empty

    def activate(self, memory: GuestMemory, event_idx: bool, barrier: Callable[[], object]) -> None:
        """Check what the driver configured and map the rings.

        Raises:
            QueueError: size or alignment is against virtio 1.2, 2.7.
            GuestMemoryError: a ring is not in memory.
        """
        size = self.size
        if not self.ready:
            raise QueueError(f"queue {self.index} is not ready")
        if not 0 < size <= self.max_size or size & (size - 1):
            raise QueueError(
                f"queue {self.index}: size {size} is not a power of two up to {self.max_size}"
            )
        for name, gpa, alignment in (
            ("descriptor table", self.desc, 16),
            ("available ring", self.avail, 2),
            ("used ring", self.used, 4),
        ):
            if gpa % alignment:
                raise QueueError(f"queue {self.index}: {name} {gpa:#x} not aligned to {alignment}")
        self._desc = memory.slice(self.desc, 16 * size)
        self._avail = memory.slice(self.avail, 6 + 2 * size).cast("H")
        used = memory.writable(self.used, 6 + 8 * size)
        self._used = used.cast("H")
        self._ring = used[4 : 4 + 8 * size].cast("I")
        self._memory = memory
        self._mask = size - 1
        self._event_idx = event_idx
        self._barrier = barrier
        self._signalled = self.next_used

    @property
    def pending(self) -> int:
        """How many chains the driver has made available and the device has not taken.

        Raises:
            QueueError: more than the queue holds.
        """
        count = (self._avail[1] - self.next_avail) & 0xFFFF
        if count > self.size:
            raise self._jumped(count)
        return count

    def _jumped(self, count: int) -> QueueError:
        return QueueError(
            f"queue {self.index}: available index jumped {count} ahead of a queue of {self.size}"
        )

    def pop(self) -> Chain | None:
        """Take the next chain, or None.  hot: per request.

        Raises:
            QueueError: the chain is malformed.
            GuestMemoryError: it points outside memory.
        """
        next_avail = self.next_avail
        count = (self._avail[1] - next_avail) & 0xFFFF
        if not count:
            return None
        size = self.size
        if count > size:
            raise self._jumped(count)
        index = self._avail[2 + (next_avail & self._mask)]
        memory = self._memory
        assert memory is not None
        chain = Chain(index)
        table = self._desc
        readable, writable = chain.readable, chain.writable
        for _ in range(size):
            if index >= size:
                raise QueueError(
                    f"queue {self.index}: descriptor {index} is outside a table of {size}"
                )
            gpa, length, flags, following = _descriptor_at(table, index * 16)
            if flags & VRING_DESC_F_WRITE:
                writable.append(memory.writable(gpa, length))
                chain.writable_at.append(gpa)
                chain.writable_size += length
            elif writable:
                raise QueueError(
                    f"queue {self.index}: descriptor {index} is readable after a writable one"
                )
            else:
                readable.append(memory.slice(gpa, length))
                chain.readable_size += length
            if flags & VRING_DESC_F_INDIRECT:
                raise QueueError(f"queue {self.index}: indirect descriptor {index} was not offered")
            if not flags & VRING_DESC_F_NEXT:
                break
            index = following
        else:
            raise QueueError(f"queue {self.index}: chain at {chain.head} is longer than {size}")
        if chain.readable_size + chain.writable_size > MAX_CHAIN_BYTES:
            raise QueueError(f"queue {self.index}: chain at {chain.head} has over 2**32 bytes")
        self.next_avail = (next_avail + 1) & 0xFFFF
        return chain

    def undo_pop(self, count: int = 1) -> None:
        """Put the ``count`` chains that were popped last back, to find them again later."""
        self.next_avail = (self.next_avail - count) & 0xFFFF

    def push(self, head: int, written: int) -> None:
        """Give a chain back, ``written`` bytes of it filled.  hot: per request."""
        slot = (self.next_used & self._mask) * 2
        ring = self._ring
        ring[slot] = head
        ring[slot + 1] = written
        self.next_used = next_used = (self.next_used + 1) & 0xFFFF
        self._used[1] = next_used
        memory = self._memory
        if memory is not None and memory.tracks_dirty:
            memory.mark_dirty(self.used, 6 + 8 * self.size)

    def push_all(self, used: Sequence[tuple[int, int]]) -> None:
        """Give several (head, written) back as one: the driver sees all of them or none."""
        ring, mask, at = self._ring, self._mask, self.next_used
        for head, written in used:
            slot = (at & mask) * 2
            ring[slot] = head
            ring[slot + 1] = written
            at += 1
        self.next_used = self._used[1] = at & 0xFFFF
        memory = self._memory
        if memory is not None and memory.tracks_dirty:
            memory.mark_dirty(self.used, 6 + 8 * self.size)

    def needs_signal(self) -> bool:
        """Whether the driver wants an interrupt for what was pushed since the last call."""
        old, new = self._signalled, self.next_used
        if old == new:
            return False
        self._signalled = new
        self._barrier()
        if self._event_idx:
            event = self._avail[2 + self.size]
            return ((new - event - 1) & 0xFFFF) < ((new - old) & 0xFFFF)
        return not self._avail[0] & VRING_AVAIL_F_NO_INTERRUPT

    def continue_at(self, next_avail: int, next_used: int) -> None:
        """Go on where another server of this queue (the kernel) stopped."""
        self.next_avail = next_avail & 0xFFFF
        self.next_used = self._signalled = next_used & 0xFFFF

    def disable_notifications(self) -> None:
        """Ask the driver not to ring while we are looking anyway."""
        if not self._event_idx:
            self._used[0] = VRING_USED_F_NO_NOTIFY
            self._mark_used(0)

    def enable_notifications(self) -> bool:
        """Ask the driver to ring for the next chain; True if there is one already."""
        self._await(self.next_avail)
        return self._avail[1] != self.next_avail

    def ask_for_next(self) -> None:
        """Ask the driver to ring when it adds a chain, whatever it has added and we not taken."""
        self._await(self._avail[1])

    def _await(self, index: int) -> None:
        """Have the driver ring once its available index passes ``index``."""
        at = 2 + 4 * self.size if self._event_idx else 0
        self._used[at] = index if self._event_idx else 0
        self._mark_used(2 * at)
        self._barrier()

    def _mark_used(self, offset: int) -> None:
        memory = self._memory
        if memory is not None and memory.tracks_dirty:
            memory.mark_dirty(self.used + offset, 2)

    def state(self) -> QueueState:
        """What to save besides guest memory."""
        return {
            "size": self.size,
            "ready": self.ready,
            "desc": self.desc,
            "avail": self.avail,
            "used": self.used,
            "next_avail": self.next_avail,
            "next_used": self.next_used,
        }

    def restore(self, state: QueueState) -> None:
        """Configure as saved; ``activate`` checks it as it checks the driver's words."""
        self.reset()
        self.size = state["size"]
        self.ready = state["ready"]
        self.desc = state["desc"]
        self.avail = state["avail"]
        self.used = state["used"]
        self.next_avail = state["next_avail"] & 0xFFFF
        self.next_used = state["next_used"] & 0xFFFF
