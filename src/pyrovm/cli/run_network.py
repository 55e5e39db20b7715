"""``--net`` of ``pyrovm run``: taps with addresses, and what the guest's kernel is told of them."""

from __future__ import annotations

import os

from pyrovm.backends.tap_address import dotted, free_subnet, parse_address, set_address
from pyrovm.cli.run_options import split_spec
from pyrovm.errors import ConfigError

AUTO_PREFIX = 30  # network, host, guest, broadcast


class Interface:
    """One interface: its record for the API, and the host's address on its tap (0: leave it)."""

    __slots__ = ("host", "name", "prefix", "record")

    def __init__(self, index: int, text: str) -> None:
        """Read ``--net``.

        Raises:
            ConfigError: it cannot be understood.
        """
        spec = split_spec("--net", text, (), ("mac", "mtu", "ip", "id"))
        self.host = self.prefix = 0
        self.name = spec[""]
        if self.name == "auto":
            self.name = f"pv{os.getpid()}x{index}"
            self.prefix = AUTO_PREFIX
            self.host = _free_subnet(index) + 1
        if "ip" in spec:
            address, _, prefix = spec["ip"].partition("/")
            if not prefix.isdigit() or not 1 <= int(prefix) <= 30:
                raise ConfigError(f"--net {text!r}: ip must be ADDRESS/PREFIX, PREFIX 1 to 30")
            self.host, self.prefix = parse_address(address), int(prefix)
        self.record: dict[str, object] = {
            "iface_id": spec.get("id", f"eth{index}"),
            "host_dev_name": self.name,
        }
        if "mac" in spec:
            self.record["guest_mac"] = spec["mac"]
        if "mtu" in spec:
            if not spec["mtu"].isdigit():
                raise ConfigError(f"--net {text!r}: mtu must be a number from 68 to 65535")
            self.record["mtu"] = int(spec["mtu"])

    @property
    def guest(self) -> int:
        """The address meant for the guest: the one behind the host's."""
        return self.host + 1

    def kernel_words(self, index: int) -> str:
        """``ip=`` as the kernel's nfsroot.rst has it; empty where addresses are left alone."""
        if not self.host:
            return ""
        netmask = dotted(0xFFFF_FFFF << (32 - self.prefix) & 0xFFFF_FFFF)
        return f"ip={dotted(self.guest)}::{dotted(self.host)}:{netmask}::eth{index}:off"

    def configure_host(self) -> None:
        """Give the tap its address; it exists once its device is made.

        Raises:
            HostError: the kernel refused.
        """
        if self.host:
            set_address(self.name, self.host, self.prefix)


def _free_subnet(index: int) -> int:
    try:
        with open("/proc/net/route") as file:
            routes = file.read()
    except OSError:  # no /proc: then nothing is known to be taken
        routes = ""
    return free_subnet(os.getpid() * 4 + index, routes)
