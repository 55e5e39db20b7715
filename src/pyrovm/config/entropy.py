"""``/entropy``: the random number device."""

from __future__ import annotations

from pyrovm.config.rate_limiter import RATE_LIMITER, RateLimiterConfig
from pyrovm.config.record import Record, json_or_null
from pyrovm.config.serde.schema import optional, struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class EntropyConfig(Record):
    """The entropy device."""

    __slots__ = ("rate_limiter",)

    def __init__(self, *, rate_limiter: RateLimiterConfig | None = None) -> None:
        self.rate_limiter = rate_limiter

    def to_json(self) -> Any:
        return {"rate_limiter": json_or_null(self.rate_limiter)}


ENTROPY_CONFIG = struct(
    "EntropyDeviceConfig", (optional("rate_limiter", RATE_LIMITER),), EntropyConfig
)
