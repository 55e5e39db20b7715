"""The VM generation id: 16 random bytes that are others in every copy of a machine.

A guest that finds them changed knows that it was restored, perhaps for the second time from one
snapshot, and reseeds its random number generator (Microsoft's "Virtual Machine Generation ID").
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.arch.x86.system_memory import SystemMemory
    from pyrovm.memory.guest_memory import GuestMemory

SIZE, ALIGN = 16, 8  # bytes


def place(pool: SystemMemory) -> int:
    """Where a new machine has its id; before :func:`pyrovm.devices.vmclock.place`."""
    return pool.last_fit(SIZE, ALIGN)


class VmGenId:
    """The id at ``gpa``; ``raise_irq`` pulses its line, ``random_bytes(n)`` returns n of them."""

    def __init__(
        self,
        memory: GuestMemory,
        gpa: int,
        raise_irq: Callable[[], object],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self.gpa = gpa
        self._memory = memory
        self._raise_irq = raise_irq
        self._random_bytes = random_bytes

    def start(self) -> None:
        """Write the first id, before the guest runs."""
        self._memory.write(self.gpa, self._random_bytes(SIZE))

    def restored(self) -> None:
        """Write a new id into restored memory and tell the guest; while its vCPUs stand still."""
        self.start()
        self._raise_irq()
