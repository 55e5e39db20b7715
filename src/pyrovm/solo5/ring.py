"""The network ring: frames without an exit for each (Solo5 0.11, feature bit 0).

The guest writes entries (send this, receive into that) and advances its tail; the host takes them,
answers receptions with commits, and advances its own indices.  All indices run freely through 32
bits.  The structure lies above the memory that a guest may use for anything else::

    0       entry tail, commit head                   written by the guest
    64      entry head, commit tail, needs_kick       written by the host
    128     entries[1024]: operation, handle, data, size, id
    32896   commits[1024]: id, result, size

``needs_kick`` is the host's word that it sleeps: only then the guest rings the doorbell, a 32-bit
OUT to port 0x600.  Both sides store their own word and then load the other's, so each needs a full
memory barrier in between: ours is ``barrier``, in :meth:`Ring.is_idle`.
"""

from __future__ import annotations

from struct import Struct

from pyrovm.errors import GuestError
from pyrovm.solo5.hypercalls import net_read, net_write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyrovm.solo5.hypercalls import NetDevice
    from pyrovm.solo5.window import Window

KICK_PORT = 0x600
SLOTS = 1024
ENTRIES, COMMITS = 128, 32896
WRITE, READ = 1, 2

_ENTRY = Struct("<IIQII8x")  # operation, handle, data, size, id
_COMMIT = Struct("<IiI4x")  # id, result, size
SIZE = COMMITS + SLOTS * _COMMIT.size

_ENTRY_TAIL, _COMMIT_HEAD = 0, 1  # indices of 32-bit words
_ENTRY_HEAD, _COMMIT_TAIL, _NEEDS_KICK = 16, 17, 18
_U32 = 0xFFFF_FFFF


class Ring:
    """The host's side of a ring over ``page``, SIZE bytes of memory shared with the guest.

    ``barrier`` makes what this CPU has stored visible before it loads anything else.
    """

    def __init__(
        self,
        page: memoryview,
        window: Window,
        nets: Mapping[int, NetDevice],
        barrier: Callable[[], object],
    ) -> None:
        self._page = page
        self._words = page[:ENTRIES].cast("I")
        self._window = window
        self._nets = nets
        # Ours alone: what the guest may do to its copies is not believed.
        self._entry_head = 0
        self._commit_tail = 0
        self._barrier = barrier

    def release(self) -> None:
        """Let go of the memory."""
        self._words.release()
        self._page.release()

    def serve(self) -> int:
        """Take all entries that are there now; how many.  hot: per entry.

        Raises:
            GuestError: the guest broke the ring's rules.
        """
        tail = self._words[_ENTRY_TAIL]
        count = (tail - self._entry_head) & _U32
        if count > SLOTS:
            raise GuestError(
                f"network ring: {count} entries between head {self._entry_head} and tail {tail}, "
                f"{SLOTS} allowed"
            )
        for _ in range(count):
            at = ENTRIES + self._entry_head % SLOTS * _ENTRY.size
            operation, handle, data, size, number = _ENTRY.unpack_from(self._page, at)
            if operation == WRITE:
                net_write(self._window, self._nets, handle, data, size)
            elif operation == READ:
                result, length = net_read(self._window, self._nets, handle, data, size)
                self._commit(number, result, length)
            self._entry_head = (self._entry_head + 1) & _U32
            self._words[_ENTRY_HEAD] = self._entry_head
        return count

    def _commit(self, number: int, result: int, length: int) -> None:
        unread = (self._commit_tail - self._words[_COMMIT_HEAD]) & _U32
        if unread >= SLOTS:
            raise GuestError(f"network ring: {unread} commits are unread, {SLOTS} fit")
        at = COMMITS + self._commit_tail % SLOTS * _COMMIT.size
        _COMMIT.pack_into(self._page, at, number, result, length)
        # x86 keeps stores in order, so the guest sees the commit before the index.
        self._commit_tail = (self._commit_tail + 1) & _U32
        self._words[_COMMIT_TAIL] = self._commit_tail

    def is_idle(self) -> bool:
        """Ask for a doorbell, then look once more: True if nothing came in between."""
        self._words[_NEEDS_KICK] = 1
        self._barrier()
        return self._words[_ENTRY_TAIL] == self._entry_head

    def woken(self) -> None:
        """Tell the guest that no doorbell is needed."""
        self._words[_NEEDS_KICK] = 0
