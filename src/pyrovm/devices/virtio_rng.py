"""The entropy device (virtio 1.2, section 5.4): random bytes for the driver's buffers."""

from __future__ import annotations

from pyrovm.abi.virtio import VIRTIO_ID_RNG
from pyrovm.errors import HostError
from pyrovm.virtio.device import VirtioDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_REQUEST = 64 << 10  # bytes of one request that are filled


class RngCounters:
    """What the ``entropy`` metrics are made of."""

    __slots__ = ("bytes", "event_count", "host_fails")

    def __init__(self) -> None:
        self.bytes = 0
        self.event_count = 0
        self.host_fails = 0


class VirtioRng(VirtioDevice):
    """``random_bytes(n)`` returns n random bytes or raises HostError."""

    device_id = VIRTIO_ID_RNG

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        super().__init__("rng")
        self._random_bytes = random_bytes
        self.counters = RngCounters()

    def process(self, index: int) -> None:
        active = self.active
        assert active is not None
        self.counters.event_count += 1
        queue = active.queues[0]
        for _ in range(queue.size):
            chain = queue.pop()
            if chain is None:
                break
            size = min(chain.writable_size, MAX_REQUEST)
            try:
                written = chain.write(self._random_bytes(size))
            except HostError:
                self.counters.host_fails += 1
                written = 0
            self.counters.bytes += written
            queue.push(chain.head, written)
        if queue.needs_signal():
            active.interrupts.queue()
