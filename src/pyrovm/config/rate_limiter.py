"""``RateLimiter`` of the API: token buckets for bandwidth (bytes) and operations."""

from __future__ import annotations

from pyrovm.config.record import Record
from pyrovm.config.serde.schema import optional, required, struct, u64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

U64_MAX = (1 << 64) - 1
NS_PER_MS = 1_000_000


class TokenBucketConfig(Record):
    """``size`` and ``one_time_burst`` in tokens, ``refill_time`` in ms."""

    __slots__ = ("one_time_burst", "refill_time", "size")

    def __init__(self, *, size: int, refill_time: int, one_time_burst: int | None = None) -> None:
        self.size = size
        self.one_time_burst = one_time_burst
        self.refill_time = refill_time

    @property
    def is_unlimited(self) -> bool:
        """Whether these numbers mean "no limit"; in an update they remove one."""
        if self.size == 0 or self.refill_time == 0:
            return True
        return self.refill_time * NS_PER_MS > U64_MAX

    def to_json(self) -> Any:
        return {
            "size": self.size,
            "one_time_burst": self.one_time_burst or None,
            "refill_time": self.refill_time,
        }


class RateLimiterConfig(Record):
    """Two optional buckets; in an update an absent one stays as it is."""

    __slots__ = ("bandwidth", "ops")

    def __init__(
        self, *, bandwidth: TokenBucketConfig | None = None, ops: TokenBucketConfig | None = None
    ) -> None:
        self.bandwidth = bandwidth
        self.ops = ops

    def updated(self, update: RateLimiterConfig) -> RateLimiterConfig:
        """This limiter after a PATCH with ``update``."""
        return RateLimiterConfig(
            bandwidth=update.bandwidth or self.bandwidth, ops=update.ops or self.ops
        )

    def to_json(self) -> Any:
        """The buckets that limit anything; null when none does."""
        buckets = {"bandwidth": _limit(self.bandwidth), "ops": _limit(self.ops)}
        return buckets if any(buckets.values()) else None


def _limit(bucket: TokenBucketConfig | None) -> Any:
    return None if bucket is None or bucket.is_unlimited else bucket.to_json()


TOKEN_BUCKET = struct(
    "TokenBucketConfig",
    (required("size", u64), optional("one_time_burst", u64), required("refill_time", u64)),
    TokenBucketConfig,
    ignore_unknown=True,
)
RATE_LIMITER = struct(
    "RateLimiterConfig",
    (optional("bandwidth", TOKEN_BUCKET), optional("ops", TOKEN_BUCKET)),
    RateLimiterConfig,
)
