"""Rate limiters from what the API says of them."""

from __future__ import annotations

from pyrovm.devices.rate_limiter import RateLimiter, TokenBucket, make_bucket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from pyrovm.config.rate_limiter import RateLimiterConfig, TokenBucketConfig

    class Update(Protocol):
        """A device's ``update_limiter``."""

        def __call__(self, limiter: RateLimiter, *, bandwidth: bool, ops: bool) -> None: ...


def make_limiter(config: RateLimiterConfig | None) -> RateLimiter:
    """A limiter with full buckets; without any, nothing ever waits."""
    if config is None:
        return RateLimiter()
    return RateLimiter(_bucket(config.bandwidth), _bucket(config.ops))


def update_limiter(update: Update, change: RateLimiterConfig) -> None:
    """Have ``update`` install the buckets that ``change`` names; an unlimited one ends a limit."""
    update(
        make_limiter(change),
        bandwidth=change.bandwidth is not None,
        ops=change.ops is not None,
    )


def _bucket(config: TokenBucketConfig | None) -> TokenBucket | None:
    if config is None:
        return None
    return make_bucket(config.size, config.refill_time, config.one_time_burst or 0)
