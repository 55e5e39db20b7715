"""What a guest may point to: its own memory, and for answers only where it could write itself.

Pages of a read-only segment are protected in the host's address space as well, so that a store of
ours would be a crash of ours: every pointer is checked against them.
"""

from __future__ import annotations

from pyrovm.errors import GuestError
from pyrovm.solo5.image import MIN_ADDRESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrovm.memory.guest_memory import GuestMemory


class Window:
    """``size`` bytes from 0 of ``memory``; ``protected`` are (start, end) of read-only segments."""

    __slots__ = ("_memory", "_protected", "size")

    def __init__(
        self, memory: GuestMemory, size: int, protected: Sequence[tuple[int, int]] = ()
    ) -> None:
        self._memory = memory
        self._protected = tuple(protected)
        self.size = size

    def readable(self, gpa: int, size: int) -> memoryview:
        """The live bytes of a range.  hot: per hypercall.

        Raises:
            GuestError: it is not wholly in the guest's memory.
        """
        if gpa + size > self.size:
            raise GuestError(
                f"the guest passed the pointer {gpa:#x} to {size:#x} bytes, its memory ends at "
                f"{self.size:#x}"
            )
        return self._memory.slice(gpa, size)

    def writable(self, gpa: int, size: int) -> memoryview:
        """The live bytes of a range, to be changed.  hot: per hypercall.

        Raises:
            GuestError: it is not wholly in memory that the guest may write.
        """
        view = self.readable(gpa, size)
        end = gpa + size
        if gpa < MIN_ADDRESS:
            raise GuestError(
                f"the guest passed the pointer {gpa:#x} for an answer: reserved memory"
            )
        for first, last in self._protected:
            if gpa < last and end > first:
                raise GuestError(
                    f"the guest passed the pointer {gpa:#x} for an answer: read-only memory "
                    f"{first:#x} to {last:#x}"
                )
        return view
