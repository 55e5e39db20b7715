"""PV_SOCKET: the guest's socket operations, every argument checked (libos/abi.h)."""

from __future__ import annotations

import _socket
import functools
from errno import (
    EAFNOSUPPORT,
    EFAULT,
    EINVAL,
    EIO,
    EMFILE,
    ENOPROTOOPT,
    ENOTSOCK,
    EPROTONOSUPPORT,
)
from struct import Struct

from pyrovm.abi import libos as abi
from pyrovm.errors import GuestError
from pyrovm.unikernel import addresses as ip
from pyrovm.unikernel import renewal
from pyrovm.unikernel.bindings import Bindings
from pyrovm.unikernel.datagrams import Datagrams
from pyrovm.unikernel.guest_socket import GuestSocket, fail
from pyrovm.unikernel.names import Names, lookup
from pyrovm.unikernel.policy import DATAGRAM, STREAM
from pyrovm.unikernel.streams import Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pyrovm.unikernel.calls import Calls
    from pyrovm.unikernel.names import Lookup
    from pyrovm.unikernel.policy import Policy

_ARGS = Struct("<iiiIQQ")  # struct pv_socket_args, before data
_DATA = abi.pv_socket_args.data.offset
_DATA_MAX = abi.pv_socket_args.SIZE - _DATA
_LENGTH_AT = abi.pv_socket_args.length.offset
_FLAGS_AT = abi.pv_socket_args.b.offset

MSG_MORE = 0x8000
SEND_FLAGS = _socket.MSG_OOB | MSG_MORE
RECEIVE_FLAGS = _socket.MSG_OOB | _socket.MSG_PEEK | _socket.MSG_TRUNC
FIONREAD, SIOCOUTQ = 0x541B, 0x5411

SOL_SOCKET, IPPROTO_TCP, IPPROTO_IPV6 = 1, 6, 41
SO_REUSEADDR, SO_ERROR, SO_LINGER, SO_REUSEPORT, IPV6_V6ONLY = 2, 4, 13, 15, 26
# What is the host's to keep: SOL_SOCKET's BROADCAST SNDBUF RCVBUF KEEPALIVE OOBINLINE RCVLOWAT;
# TCP's NODELAY MAXSEG CORK KEEPIDLE KEEPINTVL KEEPCNT SYNCNT LINGER2 DEFER_ACCEPT QUICKACK
# USER_TIMEOUT NOTSENT_LOWAT.  To be read as well: ERROR ACCEPTCONN; WINDOW_CLAMP INFO CONGESTION.
SETTABLE = {
    SOL_SOCKET: frozenset((6, 7, 8, 9, 10, 18)),
    IPPROTO_TCP: frozenset((1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 18, 25)),
}
READABLE = {
    SOL_SOCKET: SETTABLE[SOL_SOCKET] | {SO_ERROR, 30},
    IPPROTO_TCP: SETTABLE[IPPROTO_TCP] | {10, 11, 13},
}


class Args:
    """``struct pv_socket_args``: a copy, and the live bytes for what goes out."""

    __slots__ = ("a", "b", "c", "data", "iov_count", "iov_gpa", "length", "view")

    def __init__(self, view: memoryview) -> None:
        raw = bytes(view)
        self.a, self.b, self.c, self.length, self.iov_gpa, self.iov_count = _ARGS.unpack_from(raw)
        self.data = raw[_DATA : _DATA + min(self.length, _DATA_MAX)]
        self.view = view

    def give(self, data: bytes) -> None:
        """Put bytes out, no more than were asked for; their length as it is."""
        data = data[:_DATA_MAX]
        room = min(self.length, len(data))
        self.view[_DATA : _DATA + room] = data[:room]
        self.view[_LENGTH_AT : _LENGTH_AT + 4] = len(data).to_bytes(4, "little")


class Sockets:
    """Serves PV_SOCKET for one VM."""

    def __init__(
        self,
        calls: Calls,
        policy: Policy,
        log: Callable[[str], None],
        find: Lookup = lookup,
        hostname: str = "localhost",
        listens: Callable[[int], object] | None = None,
    ) -> None:
        """``log`` gets a line for what was denied; ``find`` stands in for the host's resolver.

        ``hostname`` is the guest's own name; ``listens`` is told the ports that it listens at.
        """
        self._listens = listens
        self._calls = calls
        self._sockets: dict[int, GuestSocket] = {}
        self._bindings = Bindings(policy, log)
        self._names = names = Names(policy, self._bindings.remark, find, hostname)
        self._datagrams = Datagrams(self._bindings, names)
        self._streams = Streams(self._bindings, names)
        self._kinds: dict[int, Streams | Datagrams] = {
            STREAM: self._streams,
            DATAGRAM: self._datagrams,
        }
        self._operations: list[Callable[[GuestSocket, Args], int]] = [
            self._bind,
            self._listen,
            self._accept,
            self._connect,
            self._shutdown,
            self._name,
            self._peer,
            self._setopt,
            self._getopt,
            self._send,
            self._receive,
            self._pending,
        ]
        calls.handlers[abi.PV_SOCKET] = self._call

    def close(self) -> None:
        """Give back what is not behind a handle."""
        self._datagrams.close()

    def let_go(self) -> None:
        """The VM rests for good: give its ports back and end its connections."""
        renewal.let_go(self._sockets.values(), self._bindings)

    def renew(self) -> list[tuple[int, int, ip.Endpoint]]:
        """In a branch: have sockets of its own; (kind, port, where on the host) of the published.

        Raises:
            HostError: a port cannot be had, or there are no descriptors left.
        """
        self._datagrams.close()
        self._names.branch()
        self._streams.forget_connectors()
        renewal.renew(self._sockets.values(), self._bindings, SETTABLE)
        return self.published()

    def published(self) -> list[tuple[int, int, ip.Endpoint]]:
        """(kind, port, where on the host) of the published ports that the guest has bound."""
        return [
            (sock.kind, sock.local[1], ip.from_host(sock.host.getsockname()))
            for sock in self._sockets.values()
            if sock.published is not None and sock.owns_port
        ]

    def state(self) -> list[dict[str, Any]]:
        """What there is, as plain data for :meth:`restore`."""
        return [
            {"handle": handle, **renewal.state_of(sock, SETTABLE)}
            for handle, sock in self._sockets.items()
        ]

    def restore(self, saved: Sequence[dict[str, Any]]) -> None:
        """Have the sockets that :meth:`state` told of; :meth:`renew` makes them work.

        Raises:
            KeyError, TypeError, ValueError: it is no such data.
            OSError: there are no descriptors left.
        """
        for fields in saved:
            handle = int(fields["handle"])
            if not abi.PV_LOG < handle < abi.PV_HANDLE_MAX or handle in self._sockets:
                raise ValueError(f"handle {handle}")
            sock = renewal.socket_from(fields, self._bindings)
            self._sockets[handle] = sock
            self._calls.restore_handle(
                handle,
                sock.host.fileno(),
                functools.partial(self._close, handle),
                plain=sock.kind == STREAM,
            )

    def _call(self, operation: int, handle: int, gpa: int, length: int, *_: int) -> int:
        if length != abi.pv_socket_args.SIZE or operation >= abi.PV_SOCKET_OPERATIONS:
            return -EINVAL
        try:
            args = Args(self._calls.writable(gpa, length))
            if operation == abi.PV_SOCKET_OPEN:
                return self._open(args)
            sock = self._sockets.get(handle)
            if sock is None:
                return -ENOTSOCK
            return self._operations[operation - 1](sock, args)
        except GuestError:
            return -EFAULT
        except ValueError:
            return -EINVAL
        except OSError as error:
            return -(error.errno or EIO)

    # -------------------------------------------------------------------------------- connections

    def _open(self, args: Args) -> int:
        if args.a not in (ip.AF_INET, ip.AF_INET6):
            return -EAFNOSUPPORT
        if (args.b, args.c) not in ((STREAM, 6), (DATAGRAM, 17)):
            return -EPROTONOSUPPORT
        return self._add(self._bindings.open(args.a, args.b))

    def _add(self, sock: GuestSocket) -> int:
        def close() -> None:
            self._close(handle)

        try:
            # Of a UDP socket the guest sees only what receive() has looked at.
            handle = self._calls.add_handle(sock.host.fileno(), close, plain=sock.kind == STREAM)
        except GuestError:
            sock.host.close()
            return -EMFILE
        self._sockets[handle] = sock
        return handle

    def _close(self, handle: int) -> None:
        sock = self._sockets.pop(handle)
        self._streams.forget(sock)
        self._bindings.release(sock)
        sock.host.close()

    @staticmethod
    def _endpoint(sock: GuestSocket, data: bytes) -> ip.Endpoint:
        family, address, port = ip.unpack(data)
        if family != sock.family:
            raise fail(EAFNOSUPPORT)
        if sock.v6_only and ip.is_v4(address):
            raise ValueError("an IPv4 address for a socket that wants none")
        return address, port

    def _bind(self, sock: GuestSocket, args: Args) -> int:
        self._bindings.bind(sock, self._endpoint(sock, args.data))
        return 0

    def _listen(self, sock: GuestSocket, args: Args) -> int:
        self._kinds[sock.kind].listen(sock, args.a)
        if self._listens:
            self._listens(sock.local[1])
        return 0

    def _accept(self, sock: GuestSocket, args: Args) -> int:
        made = self._kinds[sock.kind].accept(sock)
        handle = self._add(made)
        if handle >= 0 and made.peer is not None:
            args.give(ip.pack(made.family, made.peer))
        return handle

    def _connect(self, sock: GuestSocket, args: Args) -> int:
        if ip.family_of(args.data) == ip.AF_UNSPEC:
            self._kinds[sock.kind].disconnect(sock)
        elif sock.kind == STREAM and sock.peer is not None:  # how far is it? (any address will do)
            self._streams.connect(sock, sock.peer)
        else:
            self._kinds[sock.kind].connect(sock, self._endpoint(sock, args.data))
        return 0

    def _shutdown(self, sock: GuestSocket, args: Args) -> int:
        if not 0 <= args.a <= 2:
            return -EINVAL
        self._kinds[sock.kind].shutdown(sock, args.a)
        return 0

    def _name(self, sock: GuestSocket, args: Args) -> int:
        args.give(ip.pack(sock.family, sock.local))
        return 0

    def _peer(self, sock: GuestSocket, args: Args) -> int:
        args.give(ip.pack(sock.family, self._kinds[sock.kind].peer(sock)))
        return 0

    # --------------------------------------------------------------------------------------- data

    def _send(self, sock: GuestSocket, args: Args) -> int:
        views = self._calls.pieces(args.iov_gpa, args.iov_count, write=False)
        to = self._endpoint(sock, args.data) if args.length and sock.kind == DATAGRAM else None
        flags = args.b & SEND_FLAGS | _socket.MSG_NOSIGNAL
        return self._kinds[sock.kind].send(sock, views, flags, to)

    def _receive(self, sock: GuestSocket, args: Args) -> int:
        views = self._calls.pieces(args.iov_gpa, args.iov_count, write=True)
        count, flags, source = self._kinds[sock.kind].receive(sock, views, args.b & RECEIVE_FLAGS)
        args.view[_FLAGS_AT : _FLAGS_AT + 4] = flags.to_bytes(4, "little")
        args.give(ip.pack(sock.family, source) if source else b"")
        return count

    def _pending(self, sock: GuestSocket, args: Args) -> int:
        from fcntl import ioctl

        count = bytearray(4)
        ioctl(sock.host.fileno(), SIOCOUTQ if args.a else FIONREAD, count)
        return int.from_bytes(count, "little")

    # ------------------------------------------------------------------------------------ options

    def _setopt(self, sock: GuestSocket, args: Args) -> int:
        level, name, value = args.a, args.b, args.data
        number = int.from_bytes(value[:4], "little")
        if len(value) < 4:
            return -EINVAL
        if (level, name) == (SOL_SOCKET, SO_REUSEADDR):
            sock.reuse_address = bool(number)
        elif (level, name) == (SOL_SOCKET, SO_REUSEPORT):
            sock.reuse_port = bool(number)
        elif (level, name) == (SOL_SOCKET, SO_LINGER):
            return self._set_linger(sock, value)
        elif (level, name) == (IPPROTO_IPV6, IPV6_V6ONLY) and sock.family == ip.AF_INET6:
            if sock.owns_port:
                return -EINVAL
            sock.v6_only = bool(number)
        elif name in SETTABLE.get(level, ()):
            sock.host.setsockopt(level, name, value)
        else:
            return -ENOPROTOOPT
        return 0

    @staticmethod
    def _set_linger(sock: GuestSocket, value: bytes) -> int:
        """Only "reset at close" reaches the host: a close that waits would stop the VM."""
        if len(value) < 8:
            return -EINVAL
        sock.linger = value[:8]
        resets = any(value[:4]) and not any(value[4:8])
        sock.host.setsockopt(SOL_SOCKET, SO_LINGER, value[:8] if resets else bytes(8))
        return 0

    def _getopt(self, sock: GuestSocket, args: Args) -> int:
        key = args.a, args.b
        if key == (SOL_SOCKET, SO_REUSEADDR):
            value = int(sock.reuse_address).to_bytes(4, "little")
        elif key == (SOL_SOCKET, SO_REUSEPORT):
            value = int(sock.reuse_port).to_bytes(4, "little")
        elif key == (SOL_SOCKET, SO_LINGER):
            value = sock.linger
        elif key == (IPPROTO_IPV6, IPV6_V6ONLY) and sock.family == ip.AF_INET6:
            value = int(sock.v6_only).to_bytes(4, "little")
        elif args.b in READABLE.get(args.a, ()):
            size = min(max(args.length, 4), _DATA_MAX)  # with 0, Python returns a number
            value = sock.host.getsockopt(args.a, args.b, size)
        else:
            return -ENOPROTOOPT
        if key == (SOL_SOCKET, SO_ERROR) and any(value) and sock.kind == STREAM:
            self._streams.failed(sock)
        args.give(value[: args.length])
        return 0
