"""``/network-interfaces/{iface_id}``: network devices on host taps."""

from __future__ import annotations

from pyrovm.config.rate_limiter import RATE_LIMITER, RateLimiterConfig
from pyrovm.config.record import Record, json_or_null
from pyrovm.config.serde.schema import (
    converted,
    optional,
    path_string,
    required,
    string,
    struct,
    u16,
)
from pyrovm.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MTU_MIN, MTU_MAX = 68, 65535


class NetworkInterfaceConfig(Record):
    """A network interface; ``guest_mac`` is in lower case."""

    __slots__ = (
        "guest_mac",
        "host_dev_name",
        "iface_id",
        "mtu",
        "rx_rate_limiter",
        "tx_rate_limiter",
    )

    def __init__(
        self,
        *,
        iface_id: str,
        host_dev_name: str,
        guest_mac: str | None = None,
        mtu: int | None = None,
        rx_rate_limiter: RateLimiterConfig | None = None,
        tx_rate_limiter: RateLimiterConfig | None = None,
    ) -> None:
        self.iface_id = iface_id
        self.host_dev_name = host_dev_name
        self.guest_mac = guest_mac
        self.mtu = mtu
        self.rx_rate_limiter = rx_rate_limiter
        self.tx_rate_limiter = tx_rate_limiter

    def updated(self, update: NetworkInterfaceUpdate) -> NetworkInterfaceConfig:
        """This interface after a PATCH with ``update``."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        for name in ("rx_rate_limiter", "tx_rate_limiter"):
            change = getattr(update, name)
            if change is not None:
                fields[name] = (fields[name] or RateLimiterConfig()).updated(change)
        return NetworkInterfaceConfig(**fields)

    def to_json(self) -> Any:
        return {
            "iface_id": self.iface_id,
            "host_dev_name": self.host_dev_name,
            "guest_mac": self.guest_mac,
            "mtu": self.mtu,
            "rx_rate_limiter": json_or_null(self.rx_rate_limiter),
            "tx_rate_limiter": json_or_null(self.tx_rate_limiter),
        }


class NetworkInterfaceUpdate(Record):
    """A PATCH of an interface of a running machine; a limiter that is None stays as it is."""

    __slots__ = ("iface_id", "rx_rate_limiter", "tx_rate_limiter")

    def __init__(
        self,
        *,
        iface_id: str,
        rx_rate_limiter: RateLimiterConfig | None = None,
        tx_rate_limiter: RateLimiterConfig | None = None,
    ) -> None:
        self.iface_id = iface_id
        self.rx_rate_limiter = rx_rate_limiter
        self.tx_rate_limiter = tx_rate_limiter


def parse_mac(text: str) -> str:
    """A MAC address in lower case: six groups of two hexadecimal digits with colons between.

    Raises:
        ConfigError: it is not one.
    """
    groups = text.split(":")
    if len(groups) != 6 or not all(
        len(group) == 2 and not group.strip("0123456789abcdefABCDEF") for group in groups
    ):
        raise ConfigError("The provided MAC address is invalid.")
    return text.lower()


def check_mtu(mtu: int) -> None:
    """Check an MTU in bytes.

    Raises:
        ConfigError: it is out of range.
    """
    if not MTU_MIN <= mtu <= MTU_MAX:
        raise ConfigError(f"MTU {mtu} is out of range [{MTU_MIN}, {MTU_MAX}]")


NETWORK_INTERFACE_CONFIG = struct(
    "NetworkInterfaceConfig",
    (
        required("iface_id", string),
        required("host_dev_name", path_string),
        optional("guest_mac", converted(parse_mac)),
        optional("mtu", u16),
        optional("rx_rate_limiter", RATE_LIMITER),
        optional("tx_rate_limiter", RATE_LIMITER),
    ),
    NetworkInterfaceConfig,
)
NETWORK_INTERFACE_UPDATE = struct(
    "NetworkInterfaceUpdateConfig",
    (
        required("iface_id", string),
        optional("rx_rate_limiter", RATE_LIMITER),
        optional("tx_rate_limiter", RATE_LIMITER),
    ),
    NetworkInterfaceUpdate,
)
