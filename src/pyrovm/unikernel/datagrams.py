"""UDP: to the world, between the guest's own sockets, and to the name server."""

from __future__ import annotations

import _socket
from errno import EAGAIN, ECONNREFUSED, EDESTADDRREQ, EINVAL, EMSGSIZE, ENOTCONN, EOPNOTSUPP

from pyrovm.unikernel import addresses as ip
from pyrovm.unikernel.guest_socket import NAME_SERVER, GuestSocket, fail, is_loopback, is_own, meant
from pyrovm.unikernel.policy import DATAGRAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrovm.unikernel.bindings import Bindings
    from pyrovm.unikernel.names import Names

STRANGERS_MAX = 64  # turned away in one call, before the guest has its turn again
CORRESPONDENTS_MAX = 4096  # addresses that one socket gets answers from
QUERY_MAX = 2048
SYS_CONNECT = 42


class Datagrams:
    """The UDP sockets of one guest."""

    def __init__(self, bindings: Bindings, names: Names) -> None:
        self._bindings = bindings
        self._names = names
        self._name_server: _socket.socket | None = None  # where its answers come from

    def close(self) -> None:
        """Give back what is not one of the guest's sockets."""
        if self._name_server is not None:
            self._name_server.close()
            self._name_server = None

    def peer(self, sock: GuestSocket) -> ip.Endpoint:
        """getpeername(2).

        Raises:
            OSError: it is not connected.
        """
        if sock.peer is None:
            raise fail(ENOTCONN)
        return sock.peer

    def listen(self, _sock: GuestSocket, _backlog: int) -> None:
        """listen(2).

        Raises:
            OSError: EOPNOTSUPP, always.
        """
        raise fail(EOPNOTSUPP)

    def accept(self, _sock: GuestSocket) -> GuestSocket:
        """accept(2).

        Raises:
            OSError: EOPNOTSUPP, always.
        """
        raise fail(EOPNOTSUPP)

    def shutdown(self, sock: GuestSocket, how: int) -> None:
        """shutdown(2); of a socket that only we know to be connected, nothing happens.

        Raises:
            OSError: it is not connected.
        """
        if sock.host_peer is not None:
            sock.host.shutdown(how)
        elif sock.peer is None:
            raise fail(ENOTCONN)

    def connect(self, sock: GuestSocket, to: ip.Endpoint) -> None:
        """connect(2): only notes the peer.

        Raises:
            OSError: EACCES where the policy says no.
        """
        to = meant(to)
        # Programs connect without sending anything, to learn which source address there is: what is
        # denied at this port only is said when something is sent.
        if not is_own(to[0]) and not self._bindings.policy.allows_some_port(to[0]):
            self._bindings.check(to)
        self._bindings.bind_somewhere(sock)
        self.disconnect(sock)
        sock.peer = to
        sock.local = self._bindings.source(sock, to[0]), sock.local[1]

    def disconnect(self, sock: GuestSocket) -> None:
        """connect(2) to AF_UNSPEC: it has no peer any more."""
        sock.peer = None
        sock.local = sock.bound, sock.local[1]
        if sock.host_peer is not None:
            from pyrovm.host import libc

            nowhere = bytearray(16)  # AF_UNSPEC
            libc.syscall(SYS_CONNECT, sock.host.fileno(), libc.address_of(nowhere), len(nowhere))
            sock.host_peer = None

    def send(
        self, sock: GuestSocket, views: Sequence[memoryview], flags: int, to: ip.Endpoint | None
    ) -> int:
        """sendmsg(2): bytes sent.

        Raises:
            OSError: EAGAIN, EACCES, and what else the host says.
        """
        to = meant(to) if to else sock.peer
        if to is None:
            raise fail(EDESTADDRREQ)
        if not to[1]:
            raise fail(EINVAL)
        self._bindings.bind_somewhere(sock)
        if sock.published is not None and to in sock.correspondents:  # an answer
            at = ip.to_host(sock.family, sock.correspondents[to])
            return sock.host.sendmsg(views, (), flags, at)
        if not is_own(to[0]):
            self._bindings.check(to)
            return self._send_outside(sock, views, flags, to)
        receiver = self._bindings.ports[DATAGRAM].find(*to, listening=False)
        if isinstance(receiver, GuestSocket):
            if sock.host_peer is not None:
                peer = sock.peer
                self.disconnect(sock)
                sock.peer = peer
            at = ip.to_host(sock.family, self._bindings.host_address(receiver))
            count = sock.host.sendmsg(views, (), flags, at)
            _expect(receiver, sock)
            return count
        if to == NAME_SERVER:
            return self._ask(sock, views)
        if is_loopback(to[0]) and self._bindings.policy.allows(*to):  # the host's
            return self._send_outside(sock, views, flags, to)
        if to == sock.peer:
            raise fail(ECONNREFUSED)
        return sum(map(len, views))  # lost

    def _send_outside(
        self, sock: GuestSocket, views: Sequence[memoryview], flags: int, to: ip.Endpoint
    ) -> int:
        at = ip.to_host(sock.family, to)
        if to == sock.peer and sock.published is None and not is_own(to[0]):
            # Connected on the host as well, so that the guest learns of a refusal.
            if sock.host_peer != to:
                sock.host.connect(at)
                sock.host_peer = to
            return sock.host.sendmsg(views, (), flags)
        self._note(sock, to, to)
        return sock.host.sendmsg(views, (), flags, at)

    def receive(
        self, sock: GuestSocket, views: Sequence[memoryview], flags: int
    ) -> tuple[int, int, ip.Endpoint | None]:
        """recvmsg(2): bytes received, flags, and from whom.

        Raises:
            OSError: EAGAIN, and what else the host says.
        """
        host = sock.host
        for _ in range(STRANGERS_MAX):
            # Whose it is decides whether the guest may see it: nothing is copied before.
            peeked = host.recvmsg_into((), 0, _socket.MSG_PEEK)[3]
            source = self._sender(sock, ip.from_host(peeked))
            if source is None or (sock.peer is not None and source != sock.peer):
                host.recv_into(bytearray(1))
                continue
            count, _, seen_flags, name = host.recvmsg_into(views, 0, flags)
            if name == peeked:
                if not flags & _socket.MSG_PEEK:
                    _arrived(sock, name[1])
                return count, seen_flags, source
        raise fail(EAGAIN)

    def _sender(self, sock: GuestSocket, seen: ip.Endpoint) -> ip.Endpoint | None:
        """Who sent a datagram, as the guest sees it; None for a stranger."""
        if seen == sock.host_peer:
            return sock.peer
        if is_loopback(seen[0]) or (
            sock.published is not None and seen[0] == sock.published.host[0]
        ):
            if self._name_server is not None and seen == ip.from_host(
                self._name_server.getsockname()
            ):
                return NAME_SERVER
            if seen[1] in sock.expected:
                return sock.expected[seen[1]][0]
            sender = self._bindings.datagram.get(seen[1])
            if sender is not None:
                return _shown_to(sock, sender)
        if seen in sock.correspondents:
            return seen
        if sock.published is None:
            return None
        shown = self._bindings.shown(seen)
        self._note(sock, shown, seen)
        return shown

    @staticmethod
    def _note(sock: GuestSocket, shown: ip.Endpoint, real: ip.Endpoint) -> None:
        """The guest may talk to ``shown``; of many, it forgets who came first."""
        if len(sock.correspondents) >= CORRESPONDENTS_MAX and shown not in sock.correspondents:
            del sock.correspondents[next(iter(sock.correspondents))]
        sock.correspondents[shown] = real

    def _ask(self, sock: GuestSocket, views: Sequence[memoryview]) -> int:
        question = b"".join(views)
        if len(question) > QUERY_MAX:
            raise fail(EMSGSIZE)
        if self._name_server is None:
            self._name_server = _socket.socket(ip.AF_INET, DATAGRAM | _socket.SOCK_CLOEXEC)
            self._name_server.bind(("127.0.0.1", 0))
        server, to = self._name_server, ("127.0.0.1", sock.host_port)

        def answer(data: bytes) -> None:
            try:
                server.sendto(data, to)
            except OSError:
                pass  # who asked has gone, and so may we

        self._names.ask(question, answer)
        return len(question)


def _shown_to(receiver: GuestSocket, sender: GuestSocket) -> ip.Endpoint:
    """A sender within the guest, as a receiver there sees it."""
    address = sender.local[0]
    if address in (ip.ANY4, ip.ANY6):
        v4 = ip.AF_INET in (receiver.family, sender.family)
        address = ip.LOOPBACK4 if v4 else ip.LOOPBACK6
    return address, sender.local[1]


def _expect(receiver: GuestSocket, sender: GuestSocket) -> None:
    """A datagram is on its way; those that nobody receives are forgotten in the end."""
    expected, port = receiver.expected, sender.host_port
    if len(expected) >= CORRESPONDENTS_MAX and port not in expected:
        del expected[next(iter(expected))]
    expected[port] = _shown_to(receiver, sender), expected.get(port, ((0, 0), 0))[1] + 1


def _arrived(receiver: GuestSocket, port: int) -> None:
    """One of those that were expected from there."""
    source, count = receiver.expected.pop(port, ((0, 0), 0))
    if count > 1:
        receiver.expected[port] = source, count - 1
