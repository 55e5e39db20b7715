"""A socket of the guest, and which addresses are its own."""

from __future__ import annotations

import os

from pyrovm.unikernel import addresses as ip

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from pyrovm.unikernel.policy import Published

GUEST4, GUEST6 = ip.parse("203.0.113.2"), ip.parse("2001:db8::2")
GATEWAY4, GATEWAY6 = ip.parse("203.0.113.1"), ip.parse("2001:db8::1")
NAME_SERVER = ip.parse("127.0.0.53"), 53
_LOOPBACK_MASK = ip.V4_MASK | 0xFF000000


def is_loopback(address: int) -> bool:
    """Whether it is in 127.0.0.0/8, or ::1."""
    return address == ip.LOOPBACK6 or address & _LOOPBACK_MASK == ip.V4 | 0x7F000000


def is_own(address: int) -> bool:
    """Whether it leads to the guest itself."""
    return is_loopback(address) or address in (GUEST4, GUEST6)


def meant(to: ip.Endpoint) -> ip.Endpoint:
    """Where one gets to with "any address": as on Linux, to oneself."""
    address, port = to
    if address == ip.ANY4:
        return ip.LOOPBACK4, port
    return (ip.LOOPBACK6 if address == ip.ANY6 else address), port


def fail(number: int) -> OSError:
    """The error, to be raised."""
    return OSError(number, os.strerror(number))


class GuestSocket:
    """One socket: the host's, and how the guest sees it."""

    __slots__ = (
        "backlog",
        "bound",
        "correspondents",
        "expected",
        "family",
        "host",
        "host_peer",
        "host_port",
        "kind",
        "linger",
        "listening",
        "local",
        "owns_port",
        "peer",
        "published",
        "reuse_address",
        "reuse_port",
        "v6_only",
    )

    def __init__(self, family: int, kind: int, host: _socket.socket) -> None:
        self.family = family
        self.kind = kind
        self.host = host
        self.bound = self.anywhere  # the address that it asked for
        self.local: ip.Endpoint = self.bound, 0
        self.peer: ip.Endpoint | None = None
        self.owns_port = False
        self.published: Published | None = None
        self.listening = False
        self.backlog = 0
        self.reuse_address = self.reuse_port = self.v6_only = False
        self.linger = bytes(8)
        self.host_port = 0  # of 127.0.0.1, where it is bound there
        self.host_peer: ip.Endpoint | None = None  # that the host's socket is connected to
        # Datagrams within the guest on their way to it: by the sender's host_port, who that is and
        # how many; the sender may be closed before they are received.
        self.expected: dict[int, tuple[ip.Endpoint, int]] = {}
        # Who may send it datagrams, as the guest and as the host sees them.
        self.correspondents: dict[ip.Endpoint, ip.Endpoint] = {}

    @property
    def anywhere(self) -> int:
        """The address that stands for all, of this family."""
        return ip.ANY4 if self.family == ip.AF_INET else ip.ANY6
