"""The host's end of a tap: an address, and up (netdevice(7)).

The tap belongs to the process that opened it, so the address goes when the process does.
"""

from __future__ import annotations

from struct import pack

from pyrovm.abi.net import IFF_UP, IFNAMSIZ, SIOCGIFFLAGS, SIOCSIFFLAGS
from pyrovm.errors import ConfigError
from pyrovm.host.ioctl import ioctl_buffer

SIOCSIFADDR, SIOCSIFNETMASK = 0x8916, 0x891C
AF_INET = 2
POOL = (172 << 24) | (30 << 16)  # 172.30.0.0/16, cut into /30s
POOL_SUBNETS = 1 << 14


def dotted(address: int) -> str:
    """An IPv4 address in its usual form."""
    return ".".join(str(address >> shift & 0xFF) for shift in (24, 16, 8, 0))


def parse_address(text: str) -> int:
    """An IPv4 address as a number.

    Raises:
        ConfigError: it is none.
    """
    parts = text.split(".")
    if len(parts) != 4 or not all(p.isascii() and p.isdigit() and int(p) < 256 for p in parts):
        raise ConfigError(f"{text!r} is not an IPv4 address")
    a, b, c, d = map(int, parts)
    return a << 24 | b << 16 | c << 8 | d


def set_address(name: str, address: int, prefix: int) -> None:
    """Give interface ``name`` an address, and bring it up.

    Raises:
        HostError: the kernel refused; it takes CAP_NET_ADMIN.
    """
    import _socket

    control = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        netmask = 0xFFFF_FFFF << (32 - prefix) & 0xFFFF_FFFF
        for request, value in ((SIOCSIFADDR, address), (SIOCSIFNETMASK, netmask)):
            raw = bytearray(_name(name) + pack("<HH", AF_INET, 0) + value.to_bytes(4, "big"))
            raw += bytes(40 - len(raw))
            ioctl_buffer(control.fileno(), request, raw, what=f"Cannot set the address of {name}")
        flags = bytearray(_name(name) + bytes(24))
        ioctl_buffer(control.fileno(), SIOCGIFFLAGS, flags, what=f"Cannot read {name}'s flags")
        flags[IFNAMSIZ] |= IFF_UP
        ioctl_buffer(control.fileno(), SIOCSIFFLAGS, flags, what=f"Cannot bring {name} up")
    finally:
        control.close()


def _name(name: str) -> bytes:
    return name.encode()[: IFNAMSIZ - 1].ljust(IFNAMSIZ, b"\0")


def free_subnet(first: int, routes: str) -> int:
    """The network address of a /30 that no route of this host covers.

    ``first`` is where the search begins, ``routes`` the text of /proc/net/route.

    Raises:
        ConfigError: all of 172.30.0.0/16 is taken.
    """
    taken = []
    for line in routes.splitlines()[1:]:
        fields = line.split()
        destination = int.from_bytes(bytes.fromhex(fields[1]), "little")
        mask = int.from_bytes(bytes.fromhex(fields[7]), "little")
        if mask:  # the default route covers everything and takes nothing
            taken.append((destination, mask))
    for index in range(POOL_SUBNETS):
        subnet = POOL + (first + index) % POOL_SUBNETS * 4
        if all(subnet & mask != destination for destination, mask in taken):
            return subnet
    raise ConfigError("no free subnet is left in 172.30.0.0/16; name addresses with --net")
