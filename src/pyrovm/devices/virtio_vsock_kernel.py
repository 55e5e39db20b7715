"""The socket device with its data plane in the kernel (vhost-vsock).

The kernel serves the queues that carry packets and knows the connections; only the event queue,
for transport resets, stays here.
"""

from __future__ import annotations

from pyrovm.devices.virtio_vsock import EVENT, RX, TX, VsockDevice
from pyrovm.errors import HostError
from pyrovm.virtio.device import EPOLLIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from pyrovm.memory.guest_memory import GuestMemory
    from pyrovm.virtio.device import Activation
    from pyrovm.virtio.queue import Queue

    class KernelVsock(Protocol):
        """vhost-vsock for one guest."""

        def start(
            self,
            memory: GuestMemory,
            queues: Sequence[Queue],
            features: int,
            kicks: Sequence[int],
            calls: Sequence[int],
        ) -> None:
            """Serve the queues; raises HostError, GuestError."""

        def set_memory(self, memory: GuestMemory) -> None:
            """Guest memory has come or gone; raises HostError."""

        def stop(self, memory: GuestMemory, queues: Sequence[Queue]) -> None:
            """Serve no more, and set the queues to where the kernel stopped."""

        def close(self) -> None:
            """Release the kernel's device."""


class VirtioVsockKernel(VsockDevice):
    """The device owns ``kernel``, which knows the guest's CID already."""

    writes_unseen = True

    def __init__(self, guest_cid: int, kernel: KernelVsock) -> None:
        super().__init__(guest_cid)
        self._kernel = kernel
        self._runs = False

    def activate(self, active: Activation) -> None:
        if not active.kicks:
            raise HostError("vhost-vsock needs a transport with eventfds")
        super().activate(active)
        active.interrupts.leave_to_kernel()
        self._start(active)

    def _start(self, active: Activation) -> None:
        data = active.queues[RX : TX + 1]
        self._kernel.start(active.memory, data, active.features, active.kicks, active.calls)
        self._runs = True
        for kick in active.kicks[RX : TX + 1]:
            active.loop.modify(kick, 0)

    def pause(self) -> None:
        active = self.active
        if self._runs and active is not None:
            self._runs = False
            self._kernel.stop(active.memory, active.queues[RX : TX + 1])
            for kick in active.kicks[RX : TX + 1]:
                active.loop.modify(kick, EPOLLIN)

    def kick(self) -> None:
        active = self.active
        if active is None:
            return
        if not self._runs:
            self._start(active)
        if not self._reset_is_seen():
            active.interrupts.queue()  # the one for the event was perhaps lost

    def process(self, index: int) -> None:
        if index == EVENT:
            self._reset_is_seen()

    def memory_changed(self) -> None:
        if self._runs and self.active is not None:
            self._kernel.set_memory(self.active.memory)

    def deactivate(self) -> None:
        self.pause()
        super().deactivate()

    def close(self) -> None:
        self._kernel.close()
