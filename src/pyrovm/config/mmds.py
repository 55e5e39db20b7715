"""``/mmds/config``: which interfaces reach the metadata service, and how it answers."""

from __future__ import annotations

from pyrovm.config.record import Record
from pyrovm.config.serde.schema import (
    boolean,
    converted,
    enum,
    located,
    optional,
    required,
    sequence,
    string,
    struct,
)
from pyrovm.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Any

DEFAULT_IPV4_ADDRESS = "169.254.169.254"


class MmdsConfig(Record):
    """``version`` is V1 or V2, ``ipv4_address`` in dotted form."""

    __slots__ = ("imds_compat", "ipv4_address", "network_interfaces", "version")

    def __init__(
        self,
        *,
        network_interfaces: Sequence[str],
        version: str = "V1",
        ipv4_address: str = DEFAULT_IPV4_ADDRESS,
        imds_compat: bool = False,
    ) -> None:
        self.version = version
        self.network_interfaces = list(network_interfaces)
        self.ipv4_address = ipv4_address
        self.imds_compat = imds_compat

    def to_json(self) -> Any:
        return {
            "version": self.version,
            "network_interfaces": self.network_interfaces,
            "ipv4_address": self.ipv4_address,
            "imds_compat": self.imds_compat,
        }


def parse_ipv4(text: str) -> str:
    """An IPv4 address as four decimal numbers without leading zeros.

    Raises:
        ConfigError: it is not one.
    """
    parts = text.split(".")
    for part in parts:
        is_number = part.isascii() and part.isdigit() and len(part) <= 3
        if not is_number or int(part) > 255 or (len(part) > 1 and part[0] == "0"):
            break
    else:
        if len(parts) == 4:
            return text
    raise ConfigError("invalid IPv4 address syntax")


def check_mmds(config: MmdsConfig, iface_ids: Collection[str]) -> None:
    """Check a configuration against the interfaces there are.

    Raises:
        ConfigError: the address is not link local, or an interface is missing.
    """
    first, second, third, _ = map(int, config.ipv4_address.split("."))
    if (first, second) != (169, 254) or not 1 <= third <= 254:  # RFC 3927, section 2.1
        raise ConfigError("The MMDS IPv4 address is not link local.")
    if not config.network_interfaces:
        raise ConfigError(
            "The list of network interface IDs that allow forwarding MMDS requests is empty."
        )
    if not all(iface_id in iface_ids for iface_id in config.network_interfaces):
        raise ConfigError(
            "The list of network interface IDs provided contains at least one ID that does not "
            "correspond to any existing network interface."
        )


MMDS_CONFIG = struct(
    "MmdsConfig",
    (
        optional("version", enum("V1", "V2"), "V1"),
        required("network_interfaces", sequence(string)),
        optional(
            "ipv4_address",
            located(converted(parse_ipv4, "IPv4 address")),
            DEFAULT_IPV4_ADDRESS,
        ),
        optional("imds_compat", boolean, False),
    ),
    MmdsConfig,
)
