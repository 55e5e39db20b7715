"""``/balloon``: the memory balloon, its statistics and free page hinting."""

from __future__ import annotations

from pyrovm.config.record import Record
from pyrovm.config.serde.schema import boolean, optional, required, struct, u16, u32
from pyrovm.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class BalloonConfig(Record):
    """``stats_polling_interval_s`` 0 means no statistics for the life of the machine."""

    __slots__ = (
        "amount_mib",
        "deflate_on_oom",
        "free_page_hinting",
        "free_page_reporting",
        "stats_polling_interval_s",
    )

    def __init__(
        self,
        *,
        amount_mib: int,
        deflate_on_oom: bool,
        stats_polling_interval_s: int = 0,
        free_page_hinting: bool = False,
        free_page_reporting: bool = False,
    ) -> None:
        self.amount_mib = amount_mib
        self.deflate_on_oom = deflate_on_oom
        self.stats_polling_interval_s = stats_polling_interval_s
        self.free_page_hinting = free_page_hinting
        self.free_page_reporting = free_page_reporting

    def replaced(self, **fields: Any) -> BalloonConfig:
        """A copy with some fields changed."""
        return BalloonConfig(**{name: getattr(self, name) for name in self.__slots__} | fields)

    def to_json(self) -> Any:
        return {
            "amount_mib": self.amount_mib,
            "deflate_on_oom": self.deflate_on_oom,
            "stats_polling_interval_s": self.stats_polling_interval_s,
            "free_page_hinting": self.free_page_hinting,
            "free_page_reporting": self.free_page_reporting,
        }


class BalloonUpdate(Record):
    """A new target, in MiB."""

    __slots__ = ("amount_mib",)

    def __init__(self, *, amount_mib: int) -> None:
        self.amount_mib = amount_mib


class BalloonStatsUpdate(Record):
    """A new interval of the statistics, in seconds."""

    __slots__ = ("stats_polling_interval_s",)

    def __init__(self, *, stats_polling_interval_s: int) -> None:
        self.stats_polling_interval_s = stats_polling_interval_s


class HintingStart(Record):
    """Whether the device acknowledges by itself when the guest has reported all pages."""

    __slots__ = ("acknowledge_on_stop",)

    def __init__(self, *, acknowledge_on_stop: bool = True) -> None:
        self.acknowledge_on_stop = acknowledge_on_stop


def check_balloon(config: BalloonConfig, mem_size_mib: int) -> None:
    """Check a balloon against the memory it lives in.

    Raises:
        ConfigError: its target is larger.
    """
    if config.amount_mib > mem_size_mib:
        raise ConfigError("Amount of pages requested is too large.")


BALLOON_CONFIG = struct(
    "BalloonDeviceConfig",
    (
        required("amount_mib", u32),
        required("deflate_on_oom", boolean),
        optional("stats_polling_interval_s", u16, 0),
        optional("free_page_hinting", boolean, False),
        optional("free_page_reporting", boolean, False),
    ),
    BalloonConfig,
)
BALLOON_UPDATE = struct("BalloonUpdateConfig", (required("amount_mib", u32),), BalloonUpdate)
BALLOON_STATS_UPDATE = struct(
    "BalloonUpdateStatsConfig", (required("stats_polling_interval_s", u16),), BalloonStatsUpdate
)
HINTING_START = struct(
    "StartHintingCmd",
    (optional("acknowledge_on_stop", boolean, True),),
    HintingStart,
    ignore_unknown=True,
)
