"""The entropy device (virtio 1.2, section 5.4): random bytes for the driver's buffers."""

from __future__ import annotations

from pyrovm.abi.virtio import VIRTIO_ID_RNG
from pyrovm.errors import HostError
from pyrovm.virtio.counters import Counters
from pyrovm.virtio.device import VirtioDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_REQUEST = 64 << 10  # bytes of one request that are filled


class RngCounters(Counters):
    """The ``entropy`` metrics."""

    __slots__ = (
        "activate_fails",
        "entropy_bytes",
        "entropy_event_count",
        "entropy_event_fails",
        "entropy_rate_limiter_throttled",
        "host_rng_fails",
        "rate_limiter_event_count",
    )

    activate_fails: int
    entropy_bytes: int
    entropy_event_count: int
    entropy_event_fails: int
    entropy_rate_limiter_throttled: int
    host_rng_fails: int
    rate_limiter_event_count: int


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
        self.counters.entropy_event_count += 1
        queue = active.queues[0]
        for _ in range(queue.size):
            chain = queue.pop()
            if chain is None:
                break
            size = min(chain.writable_size, MAX_REQUEST)
            try:
                written = chain.write(self._random_bytes(size))
            except HostError:
                self.counters.host_rng_fails += 1
                written = 0
            self.counters.entropy_bytes += written
            queue.push(chain.head, written)
        if queue.needs_signal():
            active.interrupts.queue()
