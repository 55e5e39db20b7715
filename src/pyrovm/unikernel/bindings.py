"""The guest's network: connections to the world under the policy, and those within the guest.

There is no network device.  A socket of the guest is a socket of the host, with the addresses
translated both ways:

* What is bound to a published port is bound to its address on the host.
* What is bound to another port is private.  Its host socket has some port of 127.0.0.1 that only
  this table knows; whoever else finds it there is turned away (accept, receive).
* The guest's own addresses (127.0.0.0/8, ::1, GUEST4, GUEST6) lead to what the guest is bound to,
  all others to the world, if the policy says so.
* 127.0.0.53:53 is the VMM itself (names.py).

A peer on the host's own loopback is shown as the gateway: it is not the guest's loopback.
"""

from __future__ import annotations

import _socket
from errno import EACCES, EADDRNOTAVAIL, EINVAL

from pyrovm.unikernel import addresses as ip
from pyrovm.unikernel.guest_socket import (
    GATEWAY4,
    GATEWAY6,
    GUEST4,
    GUEST6,
    GuestSocket,
    fail,
    is_loopback,
    is_own,
)
from pyrovm.unikernel.policy import DATAGRAM, STREAM
from pyrovm.unikernel.ports import Ports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.unikernel.policy import Policy, Published

REMARKS_MAX = 64  # lines about what was denied


class Bindings:
    """What the guest's sockets are bound to; ``log`` gets a line for what was denied."""

    def __init__(self, policy: Policy, log: Callable[[str], None]) -> None:
        self.policy = policy
        self._log = log
        self.ports = {STREAM: Ports(), DATAGRAM: Ports()}
        self.datagram: dict[int, GuestSocket] = {}  # by host_port
        self._publishing: dict[tuple[int, int], GuestSocket] = {}  # by kind and the guest's port
        self._remarks: set[str] = set()

    def remark(self, text: str) -> None:
        """Log a line, once; no more than REMARKS_MAX of them."""
        if text in self._remarks or len(self._remarks) > REMARKS_MAX:
            return
        self._remarks.add(text)
        self._log(text if len(self._remarks) <= REMARKS_MAX else "more was denied (not listed)")

    def open(self, family: int, kind: int) -> GuestSocket:
        """A new socket.

        Raises:
            OSError: the host has none of this family, or no descriptor left.
        """
        host = _socket.socket(family, kind | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
        host.settimeout(0)
        if family == ip.AF_INET6:
            host.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 0)
        return GuestSocket(family, kind, host)

    def release(self, sock: GuestSocket) -> None:
        """Give back what it is bound to."""
        if sock.owns_port:
            if self._publishing.get((sock.kind, sock.local[1])) is sock:
                del self._publishing[sock.kind, sock.local[1]]
            self.ports[sock.kind].release(sock.local[1], sock)
            sock.owns_port = False
            sock.local = sock.anywhere, 0
        if self.datagram.get(sock.host_port) is sock:
            del self.datagram[sock.host_port]

    # -------------------------------------------------------------------------------------- bind

    def bind(self, sock: GuestSocket, at: ip.Endpoint) -> None:
        """bind(2).

        Raises:
            OSError: the address is not the guest's, or somebody has the port.
        """
        if sock.owns_port or sock.peer is not None:
            raise fail(EINVAL)
        if at[0] not in (ip.ANY4, ip.ANY6) and not is_own(at[0]):
            raise fail(EADDRNOTAVAIL)
        self._claim(sock, at)
        published = self.policy.published(sock.kind, at[1]) if at[1] else None
        other = self._publishing.get((sock.kind, at[1]))
        if other is not None and other.family != sock.family:
            published = None  # a server of IPv4 and IPv6: the host's callers come to the first
        try:
            if published is not None:
                self.bind_published(sock, published)
                if not published.host[1]:
                    where = ip.endpoint_text(ip.from_host(sock.host.getsockname()))
                    self.remark(f"port {at[1]} of the program is published at {where}")
            elif sock.kind == DATAGRAM:
                self.bind_private(sock)
        except OSError:
            self.release(sock)
            raise

    def _claim(self, sock: GuestSocket, at: ip.Endpoint) -> None:
        port = self.ports[sock.kind].claim(at[0], at[1], sock)
        if port < 0:
            raise fail(-port)
        sock.bound, sock.local = at[0], (at[0], port)
        sock.owns_port = True

    def bind_published(self, sock: GuestSocket, published: Published) -> None:
        """To its address on the host.

        Raises:
            OSError: it cannot be had; there is a remark that says so.
        """
        host = sock.host
        host.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, int(sock.reuse_address))
        host.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEPORT, int(sock.reuse_port))
        where = ip.endpoint_text(published.host)
        if sock.family == ip.AF_INET and not ip.is_v4(published.host[0]):
            self.remark(f"the program's IPv4 socket cannot be published at {where}")
            raise fail(EADDRNOTAVAIL)
        try:
            host.bind(ip.to_host(sock.family, published.host))
        except OSError as error:
            self.remark(
                f"port {published.guest_port} cannot be published at {where}: {error.strerror}"
            )
            raise
        sock.published = published
        self._publishing.setdefault((sock.kind, published.guest_port), sock)
        if sock.kind == DATAGRAM:
            self._note_port(sock)

    def bind_private(self, sock: GuestSocket) -> None:
        """To some port of 127.0.0.1; what may send datagrams to the world, of all addresses."""
        at = ip.LOOPBACK4
        if (
            sock.kind == DATAGRAM
            and self.policy.allows_something
            and not is_loopback(sock.local[0])
        ):
            at = sock.anywhere
        sock.host.bind(ip.to_host(sock.family, (at, 0)))
        self._note_port(sock)

    def _note_port(self, sock: GuestSocket) -> None:
        sock.host_port = sock.host.getsockname()[1]
        if sock.kind == DATAGRAM:
            self.datagram[sock.host_port] = sock

    def bind_somewhere(self, sock: GuestSocket) -> None:
        """As Linux does for what talks before it was bound."""
        if not sock.owns_port:
            self._claim(sock, (sock.local[0], 0))
        if sock.kind == DATAGRAM and not sock.host_port:
            self.bind_private(sock)

    def host_address(self, sock: GuestSocket) -> ip.Endpoint:
        """Where the host has a bound socket, for connections from this host."""
        if sock.published is None:
            return ip.LOOPBACK4, sock.host_port
        address, port = ip.from_host(sock.host.getsockname())
        return (ip.LOOPBACK4 if address in (ip.ANY4, ip.ANY6) else address), port

    @staticmethod
    def source(sock: GuestSocket, to: int) -> int:
        """The guest's address in a connection to another one."""
        if sock.bound not in (ip.ANY4, ip.ANY6):
            return sock.bound
        if is_loopback(to):
            return ip.LOOPBACK4 if ip.is_v4(to) else ip.LOOPBACK6
        return GUEST4 if ip.is_v4(to) else GUEST6

    @staticmethod
    def shown(peer: ip.Endpoint) -> ip.Endpoint:
        """A peer on the host, as the guest sees it."""
        if is_loopback(peer[0]):
            return (GATEWAY4 if ip.is_v4(peer[0]) else GATEWAY6), peer[1]
        return peer

    def check(self, to: ip.Endpoint) -> None:
        """Whether the guest may talk to the world there.

        Raises:
            OSError: EACCES; there is a remark that says what would allow it.
        """
        if not self.policy.allows(*to):
            self.remark(
                f"the program may not connect to {ip.endpoint_text(to)}; "
                f"add {self.policy.suggestion(*to)}"
            )
            raise fail(EACCES)
