"""TCP: connections to the world, to what the guest listens on itself, and to the name server."""

from __future__ import annotations

import _socket
from errno import (
    EADDRINUSE,
    EAFNOSUPPORT,
    EAGAIN,
    EALREADY,
    ECONNREFUSED,
    EINPROGRESS,
    EINVAL,
    EISCONN,
    ENOTCONN,
)

from pyrovm.unikernel import addresses as ip
from pyrovm.unikernel.guest_socket import (
    GUEST4,
    GUEST6,
    NAME_SERVER,
    GuestSocket,
    fail,
    is_loopback,
    is_own,
    meant,
)
from pyrovm.unikernel.policy import STREAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrovm.unikernel.bindings import Bindings
    from pyrovm.unikernel.names import Names

BACKLOG_MAX = 4096
STRANGERS_MAX = 64  # turned away in one call, before the guest has its turn again
ACCEPT_S = 1.0  # for a connection of our own to arrive
CONNECTORS_MAX = 4096  # connections within the guest that are not yet accepted


class Streams:
    """The TCP sockets of one guest."""

    def __init__(self, bindings: Bindings, names: Names) -> None:
        self._bindings = bindings
        self._names = names
        # Where the host sees the caller; its address and the called one as the guest sees them.
        self._connectors: dict[ip.Endpoint, tuple[ip.Endpoint, int, GuestSocket]] = {}

    def forget(self, sock: GuestSocket) -> None:
        """Nobody connects to it any more."""
        if sock.listening:
            for key in [key for key, entry in self._connectors.items() if entry[2] is sock]:
                del self._connectors[key]

    def forget_connectors(self) -> None:
        """Whoever was about to connect within the guest has been reset."""
        self._connectors.clear()

    def peer(self, sock: GuestSocket) -> ip.Endpoint:
        """getpeername(2).

        Raises:
            OSError: it is not connected.
        """
        if sock.peer is None:
            raise fail(ENOTCONN)
        sock.host.getpeername()  # not yet, or no longer: ENOTCONN
        return sock.peer

    def listen(self, sock: GuestSocket, backlog: int) -> None:
        """listen(2).

        Raises:
            OSError: it is connected, or another socket listens there.
        """
        if not sock.listening:
            if sock.peer is not None:
                raise fail(EINVAL)
            self._bindings.bind_somewhere(sock)
            other = self._bindings.ports[STREAM].find(*sock.local, listening=True)
            if other is not None and not (sock.reuse_port and other.reuse_port):
                raise fail(EADDRINUSE)
            if sock.published is None and not sock.host_port:
                self._bindings.bind_private(sock)
        sock.backlog = min(max(backlog, 0), BACKLOG_MAX)
        sock.host.listen(sock.backlog)
        sock.listening = True

    def connect(self, sock: GuestSocket, to: ip.Endpoint) -> None:
        """connect(2).

        Raises:
            OSError: EINPROGRESS, EACCES where the policy says no, and what else the host says.
        """
        if sock.peer is not None and sock.host_peer is not None:  # again: how far is it?
            self._dial(sock, sock.host_peer, sock.peer)
            return
        to = meant(to)
        listener = self._bindings.ports[STREAM].find(*to, listening=True)
        if not is_own(to[0]):
            self._bindings.check(to)
            self._bindings.bind_somewhere(sock)
            self._dial(sock, to, to)
        elif isinstance(listener, GuestSocket):
            self._connect_inside(sock, to, listener)
        elif to == NAME_SERVER:
            self._connect_name_server(sock)
        elif is_loopback(to[0]) and self._bindings.policy.allows(*to):  # the host's
            self._bindings.bind_somewhere(sock)
            self._dial(sock, to, to)
        else:
            raise fail(ECONNREFUSED)

    def _dial(self, sock: GuestSocket, to: ip.Endpoint, view: ip.Endpoint) -> None:
        """The host's connect; when it has begun, the guest sees it connected to ``view``."""
        number = sock.host.connect_ex(ip.to_host(sock.family, to))
        if number in (0, EINPROGRESS):
            sock.host_peer, sock.peer = to, view
            sock.local = self._bindings.source(sock, view[0]), sock.local[1]
        elif number not in (EALREADY, EISCONN):
            self.failed(sock)
        if number:
            raise fail(number)

    def failed(self, sock: GuestSocket) -> None:
        """The connection could not be made: it may try another one."""
        sock.peer = sock.host_peer = None
        sock.local = sock.bound, sock.local[1]

    def _connect_inside(self, sock: GuestSocket, to: ip.Endpoint, listener: GuestSocket) -> None:
        self._bindings.bind_somewhere(sock)
        try:
            self._dial(sock, self._bindings.host_address(listener), to)
        finally:
            if sock.peer is not None:
                if len(self._connectors) >= CONNECTORS_MAX:
                    del self._connectors[next(iter(self._connectors))]
                seen = ip.from_host(sock.host.getsockname())
                self._connectors[seen] = sock.local, to[0], listener

    def _connect_name_server(self, sock: GuestSocket) -> None:
        self._bindings.bind_somewhere(sock)
        listener = _socket.socket(ip.AF_INET, STREAM | _socket.SOCK_CLOEXEC)
        try:
            listener.bind(("127.0.0.1", 0))
            listener.listen(4)
            listener.settimeout(ACCEPT_S)
            try:
                self._dial(sock, ip.from_host(listener.getsockname()), NAME_SERVER)
            finally:
                if sock.peer is not None:
                    self._answer(sock, listener)
        finally:
            listener.close()

    def _answer(self, sock: GuestSocket, listener: _socket.socket) -> None:
        fd, name = listener._accept()  # type: ignore[attr-defined]
        connection = _socket.socket(ip.AF_INET, STREAM, 0, fd)
        if ip.from_host(name) != ip.from_host(sock.host.getsockname()):
            connection.close()  # a stranger was faster
        else:
            self._names.converse(connection)

    def accept(self, listener: GuestSocket) -> GuestSocket:
        """accept(2).

        Raises:
            OSError: EAGAIN, and what else the host says.
        """
        for _ in range(STRANGERS_MAX):
            fd, name = listener.host._accept()  # type: ignore[attr-defined]
            host = _socket.socket(listener.family, STREAM, 0, fd)
            host.settimeout(0)
            peer = ip.from_host(name)
            made = GuestSocket(listener.family, STREAM, host)
            caller, called, expected = self._connectors.pop(peer, (None, 0, None))
            if caller is not None and expected is listener:
                made.peer, made.local = caller, (called, listener.local[1])
            elif listener.published is not None:
                made.peer = self._bindings.shown(peer)
                address = listener.local[0]
                if address in (ip.ANY4, ip.ANY6):
                    address = GUEST4 if ip.is_v4(made.peer[0]) else GUEST6
                made.local = address, listener.local[1]
            else:
                host.close()  # a stranger
                continue
            made.host_peer = made.peer
            return made
        raise fail(EAGAIN)

    def disconnect(self, _sock: GuestSocket) -> None:
        """connect(2) to AF_UNSPEC.

        Raises:
            OSError: EAFNOSUPPORT, always.
        """
        raise fail(EAFNOSUPPORT)

    def shutdown(self, sock: GuestSocket, how: int) -> None:
        """shutdown(2).

        Raises:
            OSError: as the host says.
        """
        sock.host.shutdown(how)

    def send(
        self, sock: GuestSocket, views: Sequence[memoryview], flags: int, _to: ip.Endpoint | None
    ) -> int:
        """sendmsg(2): bytes sent.

        Raises:
            OSError: as the host says.
        """
        return sock.host.sendmsg(views, (), flags)

    def receive(
        self, sock: GuestSocket, views: Sequence[memoryview], flags: int
    ) -> tuple[int, int, ip.Endpoint | None]:
        """recvmsg(2): bytes received, flags, and no sender.

        Raises:
            OSError: as the host says.
        """
        count, _, flags, _ = sock.host.recvmsg_into(views, 0, flags)
        return count, flags, None
