"""The sockets of a branch: the host's are shared with the VM that was branched, so it gets its own.

* A listener listens at a port of its own.
* A TCP connection stays with the other VM; here it has been reset (ECONNRESET).  That includes
  connections within the guest: what was on its way in the host's sockets cannot be doubled.
* A UDP socket has a port of its own, and the peer that it had.

Each takes the descriptor of the one before, so that all that knows it by that goes on to do so.
"""

from __future__ import annotations

import _socket
import os

from pyrovm.errors import HostError
from pyrovm.unikernel import addresses as ip
from pyrovm.unikernel.policy import DATAGRAM, STREAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pyrovm.unikernel.bindings import Bindings
    from pyrovm.unikernel.guest_socket import GuestSocket

SOL_SOCKET = _socket.SOL_SOCKET
LINGER_RESETS = b"\1\0\0\0\0\0\0\0"  # on, 0 s
NUMBER = 4  # bytes of an option
# What of a socket is plain data.
PLAIN: dict[str, type] = {
    "family": int,
    "kind": int,
    "bound": int,
    "local": tuple,
    "peer": tuple,
    "host_peer": tuple,
    "host_port": int,
    "listening": bool,
    "backlog": int,
    "reuse_address": bool,
    "reuse_port": bool,
    "v6_only": bool,
    "linger": bytes,
}


def let_go(sockets: Iterable[GuestSocket], bindings: Bindings) -> None:
    """Of a VM that rests for good: give ports back and end connections."""
    for sock in sockets:
        _replace(sock, bindings.open(sock.family, sock.kind).host)


def renew(
    sockets: Iterable[GuestSocket], bindings: Bindings, settable: dict[int, frozenset[int]]
) -> None:
    """Give each socket one of the host's own; ``settable`` are the options that it keeps.

    Raises:
        HostError: a published port cannot be had, or there are no descriptors left.
    """
    bindings.datagram.clear()
    try:
        resets = _Resets()
        try:
            for sock in sockets:
                if sock.kind == STREAM and sock.peer is not None:
                    _replace(sock, resets.make(sock.family))
                else:
                    _renew(sock, bindings, settable)
        finally:
            resets.close()
    except OSError as error:
        raise HostError.wrap("A branch cannot have sockets of its own", error) from None


def state_of(sock: GuestSocket, settable: dict[int, frozenset[int]]) -> dict[str, Any]:
    """A socket as plain data, for :func:`socket_from`."""
    options: list[tuple[int, int, bytes]] = []
    for level, names in settable.items():
        for name in names if level == SOL_SOCKET or sock.kind == STREAM else ():
            try:
                options.append((level, name, sock.host.getsockopt(level, name, NUMBER)))
            except OSError:  # not of this kind of socket
                continue
    return {name: getattr(sock, name) for name in PLAIN} | {
        "owns_port": sock.owns_port,
        "options": options,
    }


def socket_from(fields: dict[str, Any], bindings: Bindings) -> GuestSocket:
    """A socket of a guest that was saved; :func:`renew` makes it work.

    Raises:
        KeyError, TypeError, ValueError: it is no such data.
        OSError: there are no descriptors left.
    """
    sock = bindings.open(int(fields["family"]), int(fields["kind"]))
    try:
        _fill(sock, fields, bindings)
    except BaseException:
        sock.host.close()
        raise
    return sock


def _fill(sock: GuestSocket, fields: dict[str, Any], bindings: Bindings) -> None:
    for name, kind in PLAIN.items():
        value = fields[name]
        if kind is tuple:
            value = None if value is None else (int(value[0]), int(value[1]))
        setattr(sock, name, value if kind is tuple else kind(value))
    for level, name, value in fields["options"]:
        try:
            sock.host.setsockopt(level, name, bytes(value))
        except OSError:  # it can be read, and not be set again
            continue
    if fields["owns_port"]:
        bindings.ports[sock.kind].hold(sock.bound, sock.local[1], sock)
        sock.owns_port = True
        sock.published = bindings.policy.published(sock.kind, sock.local[1])


def _replace(sock: GuestSocket, made: _socket.socket) -> None:
    os.dup2(made.fileno(), sock.host.fileno(), inheritable=False)
    made.close()


def _renew(sock: GuestSocket, bindings: Bindings, settable: dict[int, frozenset[int]]) -> None:
    made = bindings.open(sock.family, sock.kind).host
    for level, names in settable.items():
        if level == SOL_SOCKET or sock.kind == STREAM:
            _copy_options(sock.host, made, level, names)
    _replace(sock, made)
    was_bound = bool(sock.host_port)
    sock.host_port = 0
    sock.expected.clear()
    if sock.published is not None:
        published = bindings.policy.published(sock.kind, sock.local[1])
        try:
            bindings.bind_published(sock, published or sock.published)
        except OSError as error:
            at = ip.endpoint_text((published or sock.published).host)
            what = f"Port {sock.local[1]} of the branch cannot be published at {at}"
            raise HostError.wrap(what, error) from None
    elif was_bound:
        bindings.bind_private(sock)
    if sock.kind == DATAGRAM and sock.host_peer is not None:
        sock.host.connect(ip.to_host(sock.family, sock.host_peer))
    if sock.listening:
        sock.host.listen(sock.backlog)


def _copy_options(
    old: _socket.socket, new: _socket.socket, level: int, names: Iterable[int]
) -> None:
    for name in names:
        try:
            value = old.getsockopt(level, name, NUMBER)
            if value != new.getsockopt(level, name, NUMBER):
                new.setsockopt(level, name, value)
        except OSError:  # not of this kind of socket, or not in this state
            continue


class _Resets:
    """Makes connections that the other end has reset."""

    def __init__(self) -> None:
        self._listener: _socket.socket | None = None

    def make(self, family: int) -> _socket.socket:
        """One of ``family``, which does not block."""
        if self._listener is None:
            self._listener = _socket.socket(ip.AF_INET, STREAM | _socket.SOCK_CLOEXEC)
            self._listener.bind(("127.0.0.1", 0))
            self._listener.listen(1)
        made = _socket.socket(family, STREAM | _socket.SOCK_CLOEXEC)
        if family == ip.AF_INET6:
            made.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 0)
        at = ip.from_host(self._listener.getsockname())
        made.connect(ip.to_host(family, at))
        fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        other = _socket.socket(ip.AF_INET, STREAM, 0, fd)
        other.setsockopt(SOL_SOCKET, _socket.SO_LINGER, LINGER_RESETS)
        other.close()
        made.settimeout(0)
        return made

    def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
