"""``/pmem/{id}``: files that the guest maps as persistent memory."""

from __future__ import annotations

from pyrovm.config.rate_limiter import RATE_LIMITER, RateLimiterConfig
from pyrovm.config.record import Record, json_or_null
from pyrovm.config.serde.schema import (
    boolean,
    optional,
    path_string,
    required,
    string,
    struct,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class PmemConfig(Record):
    """A persistent memory device; its file is opened when the machine starts."""

    __slots__ = ("id", "path_on_host", "rate_limiter", "read_only", "root_device")

    def __init__(
        self,
        *,
        id: str,  # noqa: A002  the API's name for it
        path_on_host: str,
        root_device: bool = False,
        read_only: bool = False,
        rate_limiter: RateLimiterConfig | None = None,
    ) -> None:
        self.id = id
        self.path_on_host = path_on_host
        self.root_device = root_device
        self.read_only = read_only
        self.rate_limiter = rate_limiter

    def updated(self, update: PmemUpdate) -> PmemConfig:
        """This device after a PATCH with ``update``."""
        if update.rate_limiter is None:
            return self
        limiter = self.rate_limiter or RateLimiterConfig()
        return PmemConfig(
            id=self.id,
            path_on_host=self.path_on_host,
            root_device=self.root_device,
            read_only=self.read_only,
            rate_limiter=limiter.updated(update.rate_limiter),
        )

    def to_json(self) -> Any:
        return {
            "id": self.id,
            "path_on_host": self.path_on_host,
            "root_device": self.root_device,
            "read_only": self.read_only,
            "rate_limiter": json_or_null(self.rate_limiter),
        }


class PmemUpdate(Record):
    """A PATCH of a device of a running machine."""

    __slots__ = ("id", "rate_limiter")

    def __init__(
        self,
        *,
        id: str,  # noqa: A002  the API's name for it
        rate_limiter: RateLimiterConfig | None = None,
    ) -> None:
        self.id = id
        self.rate_limiter = rate_limiter


PMEM_CONFIG = struct(
    "PmemConfig",
    (
        required("id", string),
        required("path_on_host", path_string),
        optional("root_device", boolean, False),
        optional("read_only", boolean, False),
        optional("rate_limiter", RATE_LIMITER),
    ),
    PmemConfig,
)
PMEM_UPDATE = struct(
    "PmemDeviceUpdateConfig",
    (required("id", string), optional("rate_limiter", RATE_LIMITER)),
    PmemUpdate,
)
