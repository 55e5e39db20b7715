"""Rate limiting by token buckets: one for bytes, one for operations.

A bucket holds ``size`` tokens and refills continuously in ``refill_time`` ms; a one-time burst on
top is spent first and never comes back.  When a request is refused, everything on the limiter
waits until a timer fires; then the device looks at its queue again.
"""

from __future__ import annotations

from time import monotonic_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyrovm.virtio.device import Loop, Timer

REFILL_TIMER = 0.1  # seconds that a refused request waits
U64_MAX = (1 << 64) - 1


class TokenBucket:
    """``size`` and ``one_time_burst`` in tokens, ``refill_time`` in ms, ``now`` a clock in ns."""

    __slots__ = ("_last", "_now", "budget", "burst", "one_time_burst", "refill_time", "size")

    def __init__(
        self,
        size: int,
        refill_time: int,
        one_time_burst: int = 0,
        now: Callable[[], int] = monotonic_ns,
    ) -> None:
        self.size = size
        self.refill_time = refill_time
        self.one_time_burst = one_time_burst
        self.burst = one_time_burst
        self.budget = size
        self._now = now
        self._last = now()

    def reduce(self, tokens: int) -> float | None:
        """Take ``tokens``; None if refused, else the seconds to wait afterwards (mostly 0).

        A request larger than the whole bucket is let through at once and paid for afterwards.
        """
        if self.burst:
            self._last = self._now()
            if self.burst >= tokens:
                self.burst -= tokens
                return 0.0
            tokens -= self.burst
            self.burst = 0
        if tokens > self.budget:
            self._refill()
            if tokens > self.size:
                excess = tokens - self.budget
                self.budget = 0
                return excess / self.size * self.refill_time / 1000
            if tokens > self.budget:
                return None
        self.budget -= tokens
        return 0.0

    def _refill(self) -> None:
        now = self._now()
        refill_ns = self.refill_time * 1_000_000
        tokens = (now - self._last) * self.size // refill_ns
        if tokens <= 0:
            return
        # Only the time that made whole tokens is spent: fractions are not lost.
        self._last += tokens * refill_ns // self.size
        self.budget += tokens
        if self.budget >= self.size:
            self.budget = self.size
            self._last = now

    def give_back(self, tokens: int) -> None:
        """Undo a :meth:`reduce`."""
        self.budget = min(self.size, self.budget + tokens)

    def state(self) -> dict[str, int]:
        """What to save; the time since the last refill is counted from the save on."""
        return {
            "size": self.size,
            "refill_time": self.refill_time,
            "one_time_burst": self.one_time_burst,
            "burst": self.burst,
            "budget": self.budget,
        }


def make_bucket(
    size: int, refill_time: int, one_time_burst: int = 0, now: Callable[[], int] = monotonic_ns
) -> TokenBucket | None:
    """A bucket, or None where these numbers mean "no limit"."""
    if size == 0 or refill_time == 0 or refill_time * 1_000_000 > U64_MAX:
        return None
    return TokenBucket(size, refill_time, one_time_burst, now)


class RateLimiter:
    """Bytes and operations together; ``throttled`` and ``timer_events`` count for the metrics."""

    def __init__(
        self, bandwidth: TokenBucket | None = None, ops: TokenBucket | None = None
    ) -> None:
        self.bandwidth = bandwidth
        self.ops = ops
        self.throttled = 0
        self.timer_events = 0
        self._timer: Timer | None = None

    def attach(self, loop: Loop, on_unblocked: Callable[[], None]) -> None:
        """Give the limiter its timer; ``on_unblocked`` is called when waiting is over."""

        def fired() -> None:
            self.timer_events += 1
            on_unblocked()

        self._timer = loop.timer(fired)

    def detach(self) -> None:
        """The device is reset: nothing waits any more."""
        if self._timer is not None:
            self._timer.disarm()
            self._timer = None

    @property
    def is_unlimited(self) -> bool:
        """Whether nothing ever has to wait."""
        return self.bandwidth is None and self.ops is None

    @property
    def is_blocked(self) -> bool:
        """Whether everything waits for the timer."""
        return self._timer is not None and self._timer.armed

    def consume(self, size_bytes: int, ops: int = 1) -> bool:
        """Pay for a request; False if it has to wait.  hot: per request."""
        if self.bandwidth is None and self.ops is None:
            return True
        return self._consume(size_bytes, ops)

    def _consume(self, size_bytes: int, ops: int) -> bool:
        if self.is_blocked:
            self.throttled += 1
            return False
        if self.ops is not None and ops and not self._take(self.ops, ops):
            return False
        if self.bandwidth is not None and size_bytes and not self._take(self.bandwidth, size_bytes):
            if self.ops is not None:
                self.ops.give_back(ops)
            return False
        return True

    def _take(self, bucket: TokenBucket, tokens: int) -> bool:
        wait = bucket.reduce(tokens)
        if wait is None:
            self.throttled += 1
            self._arm(REFILL_TIMER)
            return False
        if wait > 0:
            self._arm(wait)
        return True

    def _arm(self, seconds: float) -> None:
        if self._timer is not None and not self._timer.armed:
            self._timer.arm(seconds)

    def refund(self, size_bytes: int, ops: int = 1) -> None:
        """Hand back what a request paid that then did not happen."""
        if self.ops is not None:
            self.ops.give_back(ops)
        if self.bandwidth is not None:
            self.bandwidth.give_back(size_bytes)

    def update(self, other: RateLimiter, *, bandwidth: bool, ops: bool) -> None:
        """Install another's buckets, full; a bucket that is not named stays as it is."""
        if bandwidth:
            self.bandwidth = other.bandwidth
        if ops:
            self.ops = other.ops

    def state(self) -> dict[str, Any]:
        """What to save."""
        return {
            "bandwidth": None if self.bandwidth is None else self.bandwidth.state(),
            "ops": None if self.ops is None else self.ops.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over saved buckets."""
        self.bandwidth = _restored(state["bandwidth"])
        self.ops = _restored(state["ops"])


def _restored(state: dict[str, int] | None) -> TokenBucket | None:
    if state is None:
        return None
    bucket = make_bucket(state["size"], state["refill_time"], state["one_time_burst"])
    if bucket is not None:
        bucket.burst = max(0, min(state["burst"], bucket.one_time_burst))
        bucket.budget = max(0, min(state["budget"], bucket.size))
    return bucket
