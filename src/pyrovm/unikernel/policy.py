"""What a guest may reach, and from where it can be reached: the rules of --allow and -p.

Everything is denied that no rule allows.  A rule is ``HOST[:PORT]``, ``CIDR[:PORT]``,
``*.DOMAIN[:PORT]`` or ``*[:PORT]``.  A name stands for the addresses that the VMM told the guest
when it asked for that name (:meth:`Policy.pin`), and for no others.

Some addresses reach what nobody means by "the Internet": the host itself, its link, the metadata
service of its cloud.  They are allowed only by a rule that lies wholly within their range.
"""

from __future__ import annotations

from pyrovm.errors import ConfigError
from pyrovm.unikernel import addresses as ip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

STREAM, DATAGRAM = 1, 2  # SOCK_STREAM, SOCK_DGRAM
PINS_MAX = 4096  # addresses that names stand for
NAMES_MAX = 16  # names of one address
NAME_LENGTH_MAX = 253
DEFAULT_HOST_ADDRESS = ip.LOOPBACK4  # of published ports


def _network(text: str) -> tuple[int, int]:
    """Base and mask."""
    address, slash, length = text.partition("/")
    base = ip.parse(address)
    most = 32 if ip.is_v4(base) else 128
    if not slash:
        bits = most
    elif length.isascii() and length.isdigit() and int(length) <= most:
        bits = int(length)
    else:
        raise ValueError(f"/{length} is no prefix length; 0 to {most} are possible")
    mask = ip.ALL << (most - bits) & ip.ALL
    if base & ~mask:
        raise ValueError(f"{address} has bits behind the first {bits}")
    return base, mask


SPECIAL = tuple(
    _network(text)
    for text in (
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local; the metadata service of most clouds
        "100.100.100.200",  # metadata: Alibaba Cloud
        "168.63.129.16",  # the host of a VM in Azure
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "::1/128",
        "fe80::/10",
        "fd00:ec2::254",  # metadata: AWS
        "ff00::/8",
    )
)
_NAT64 = _network("64:ff9b::/96")


def special_range(address: int) -> tuple[int, int] | None:
    """The special range that an address is in; also as the IPv4 address within a NAT64 one."""
    if address & _NAT64[1] == _NAT64[0]:
        address = ip.V4 | (address & 0xFFFFFFFF)
    for base, mask in SPECIAL:
        if address & mask == base:
            return base, mask
    return None


class Rule:
    """One --allow: a network or a name, and a port (0: all)."""

    __slots__ = ("base", "mask", "name", "port")

    def __init__(self, base: int, mask: int, name: str, port: int) -> None:
        self.base = base
        self.mask = mask
        self.name = name
        self.port = port

    def has_address(self, address: int) -> bool:
        """Whether the rule's network has this address, and is meant if that is a special one."""
        if self.name or address & self.mask != self.base:
            return False
        special = special_range(address)
        if special is None:
            return True
        return self.mask & special[1] == special[1] and self.base & special[1] == special[0]

    def has_name(self, name: str) -> bool:
        """Whether the rule allows to ask for ``name`` (in small letters, without a last dot)."""
        if self.name.startswith("*."):
            return name.endswith(self.name[1:])
        return self.name == name if self.name else not self.mask

    def has_port(self, port: int) -> bool:
        """Whether the rule has this port."""
        return self.port in (0, port)


class Published:
    """One -p: where on the host a port of the guest is."""

    __slots__ = ("guest_port", "host", "kind")

    def __init__(self, kind: int, guest_port: int, host: ip.Endpoint) -> None:
        self.kind = kind
        self.guest_port = guest_port
        self.host = host


class Policy:
    """The rules of one VM, and the addresses that names stand for by now."""

    def __init__(self, allow: Iterable[str] = (), publish: Iterable[str] = ()) -> None:
        """Parse the rules.

        Raises:
            ConfigError: one is malformed, or a port of the guest is published twice.
        """
        self._rules = [rule for text in allow for rule in parse_rule(text)]
        self._published: dict[tuple[int, int], Published] = {}
        for text in publish:
            made = parse_published(text)
            key = made.kind, made.guest_port
            if key in self._published:
                raise ConfigError(f"-p {text}: port {made.guest_port} is published already")
            self._published[key] = made
        self._pins: dict[int, list[str]] = {}

    def republish(self, texts: Iterable[str]) -> None:
        """In a branch: publish ports as ``texts`` say, and the others where the host likes.

        Raises:
            ConfigError: one is malformed.
        """
        made = [parse_published(text) for text in texts]
        others = [
            Published(old.kind, old.guest_port, (old.host[0], 0))
            for old in self._published.values()
        ]
        self._published = {(each.kind, each.guest_port): each for each in (*others, *made)}

    @property
    def allows_something(self) -> bool:
        """Whether there is any rule for connections to the outside."""
        return bool(self._rules)

    def published(self, kind: int, port: int) -> Published | None:
        """Where a port of the guest is published, if it is."""
        return self._published.get((kind, port))

    def allows(self, address: int, port: int) -> bool:
        """Whether the guest may talk to this address and port."""
        names = self._pins.get(address, ())
        return any(
            rule.has_port(port) and (rule.has_address(address) or any(map(rule.has_name, names)))
            for rule in self._rules
        )

    def allows_some_port(self, address: int) -> bool:
        """Whether there is a port at which the guest may talk to this address."""
        names = self._pins.get(address, ())
        return any(
            rule.has_address(address) or any(map(rule.has_name, names)) for rule in self._rules
        )

    def allows_name(self, name: str) -> bool:
        """Whether the guest may ask for the addresses of ``name``."""
        return any(rule.has_name(normal_name(name)) for rule in self._rules)

    def pin(self, name: str, addresses: Sequence[int]) -> list[int]:
        """Let ``name`` stand for these addresses too; those of them that the guest may be told.

        A name never stands for a special address: its owner could point it at our host.
        """
        told = []
        name = normal_name(name)
        for address in addresses:
            if special_range(address) is not None:
                continue
            names = self._pins.get(address)
            if names is None:
                if len(self._pins) >= PINS_MAX:
                    continue
                names = self._pins[address] = []
            if name not in names:
                if len(names) >= NAMES_MAX:
                    del names[0]
                names.append(name)
            told.append(address)
        return told

    def suggestion(self, address: int, port: int) -> str:
        """What to add to the command line so that :meth:`allows` says yes."""
        names = self._pins.get(address)
        if names:
            return f"--allow {names[-1]}:{port}"
        return f"--allow {ip.endpoint_text((address, port))}"


def normal_name(name: str) -> str:
    """A name as rules have it: small letters, no dot at the end."""
    return name.lower().removesuffix(".")


def _port(text: str, least: int = 1) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and least <= int(text) <= 65535):
        raise ValueError(f"{text!r} is no port; {least} to 65535 are possible")
    return int(text)


def _split_port(text: str) -> tuple[str, str]:
    """Host and port (or ""): ``[v6]:80``, ``v6``, ``host:80``, ``host``."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or rest == ":":
            raise ValueError("after [ comes ADDRESS]:PORT")
        return host, rest[1:]
    if text.count(":") > 1:
        return text, ""
    host, colon, port = text.partition(":")
    if colon and not port:
        raise ValueError("there is no port behind the colon")
    return host, port


def _check_name(name: str) -> str:
    labels = name.removeprefix("*.").split(".")
    if len(name) > NAME_LENGTH_MAX or not all(
        0 < len(label) < 64
        and label.isascii()
        and label.replace("-", "").replace("_", "").isalnum()
        for label in labels
    ):
        raise ValueError(f"{name!r} is neither an address nor a name")
    if labels[-1].isdigit():  # a mistyped address
        raise ValueError(f"{name!r} is no address")
    return name


def parse_rule(text: str) -> list[Rule]:
    """The rules that one --allow stands for.

    Raises:
        ConfigError: it is malformed.
    """
    try:
        host, port_text = _split_port(text)
        port = _port(port_text) if port_text else 0
        if host == "*":
            return [Rule(0, 0, "", port)]
        if normal_name(host) == "localhost":
            return [Rule(address, ip.ALL, "", port) for address in (ip.LOOPBACK4, ip.LOOPBACK6)]
        if ":" in host or "/" in host or host.replace(".", "").isdigit():
            base, mask = _network(host)
            return [Rule(base, mask, "", port)]
        return [Rule(0, ip.ALL, _check_name(normal_name(host)), port)]
    except ValueError as error:
        raise ConfigError(
            f"--allow {text}: {error}; give HOST[:PORT], CIDR[:PORT], *.DOMAIN[:PORT] or *"
        ) from None


def parse_published(text: str) -> Published:
    """What one -p says; a host port of 0 lets the host choose.

    Raises:
        ConfigError: it is malformed.
    """
    try:
        rest, slash, protocol = text.partition("/")
        if slash and protocol not in ("tcp", "udp"):
            raise ValueError(f"{protocol!r} is no protocol; tcp and udp are possible")
        front, colon, guest = rest.rpartition(":")
        host, _, host_port = front.rpartition(":")
        if not colon:
            raise ValueError("the port of the guest is missing")
        address = DEFAULT_HOST_ADDRESS
        if host:
            is_v6 = host.startswith("[") and host.endswith("]")
            if ":" in host and not is_v6:
                raise ValueError("an IPv6 address needs brackets")
            address = ip.parse(host[1:-1] if is_v6 else host)
        elif front.startswith(":"):
            raise ValueError("there is no address before the first colon")
        kind = DATAGRAM if protocol == "udp" else STREAM
        return Published(kind, _port(guest), (address, _port(host_port, 0)))
    except ValueError as error:
        raise ConfigError(
            f"-p {text}: {error}; give [HOST_IP:]HOST_PORT:GUEST_PORT[/udp]"
        ) from None
