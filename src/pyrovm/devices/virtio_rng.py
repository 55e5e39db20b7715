"""The entropy device (virtio 1.2, section 5.4): random bytes for the driver's buffers."""

from __future__ import annotations

from pyrovm.abi.virtio import VIRTIO_ID_RNG
from pyrovm.devices.rate_limiter import RateLimiter
from pyrovm.errors import HostError
from pyrovm.virtio.counters import Counters
from pyrovm.virtio.device import VirtioDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyrovm.virtio.device import Activation, Timer

MAX_REQUEST = 64 << 10  # bytes of one request that are filled
MAX_BATCH = 1 << 20  # bytes of one wake-up


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
    """``random_bytes(n)`` returns n random bytes or raises HostError.

    A wake-up serves at most one queue full.  Whatever the driver adds meanwhile rings the bell
    again: the device does not offer EVENT_IDX and never mutes the bell.
    """

    device_id = VIRTIO_ID_RNG

    def __init__(
        self, random_bytes: Callable[[int], bytes], limiter: RateLimiter | None = None
    ) -> None:
        super().__init__("rng")
        self.limiter = limiter or RateLimiter()
        self.counters = RngCounters()
        self._random_bytes = random_bytes
        self._again: Timer | None = None  # fires at once: work was left for the next round

    def activate(self, active: Activation) -> None:
        super().activate(active)
        self.limiter.attach(active.loop, self._unblocked)
        self._again = active.loop.timer(self._serve)

    def deactivate(self) -> None:
        self.limiter.detach()
        if self._again is not None:
            self._again.disarm()
            self._again = None
        super().deactivate()

    def state(self) -> dict[str, Any]:
        return {"limiter": self.limiter.state()}

    def restore(self, state: dict[str, Any]) -> None:
        self.limiter.restore(state["limiter"])

    def process(self, index: int) -> None:
        self.counters.entropy_event_count += 1
        self._serve()

    def _unblocked(self) -> None:
        self.counters.rate_limiter_event_count += 1
        self._serve()

    def _serve(self) -> None:
        active = self.active
        if active is None or self.limiter.is_blocked:
            return
        queue, counters = active.queues[0], self.counters
        left = MAX_BATCH
        for _ in range(queue.size):
            chain = queue.pop()
            if chain is None:
                break
            size = min(chain.writable_size, MAX_REQUEST)
            if not self.limiter.consume(size):
                counters.entropy_rate_limiter_throttled += 1
                queue.undo_pop()
                break
            try:
                written = chain.write(self._random_bytes(size))
            except HostError:
                counters.host_rng_fails += 1
                written = 0
            counters.entropy_bytes += written
            queue.push(chain.head, written)
            left -= size
            if left <= 0:
                assert self._again is not None
                self._again.arm(0.0)
                break
        if queue.needs_signal():
            active.interrupts.queue()
