"""The guest's own ports: what its sockets are bound to, on the network inside of it."""

from __future__ import annotations

from errno import EADDRINUSE, EADDRNOTAVAIL

from pyrovm.unikernel import addresses as ip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Holder(Protocol):
        """What holds a port: a socket of the guest."""

        v6_only: bool
        reuse_address: bool
        reuse_port: bool
        listening: bool


EPHEMERAL = range(32768, 61000)  # as Linux's ip_local_port_range


def covers(address: int, v6_only: bool, other: int) -> bool:
    """Whether what is bound to ``address`` gets what is sent to ``other``."""
    if address == other:
        return True
    if address == ip.ANY4:
        return ip.is_v4(other)
    return address == ip.ANY6 and not (v6_only and ip.is_v4(other))


class Ports:
    """Who has which port, for one protocol."""

    def __init__(self) -> None:
        self._held: dict[int, list[tuple[int, Holder]]] = {}
        self._next = EPHEMERAL.start

    def claim(self, address: int, port: int, holder: Holder) -> int:
        """Give a port (0: any) at ``address`` to ``holder``: its number, or a negative errno."""
        if not port:
            port = self._choose()
            if not port:
                return -EADDRNOTAVAIL
        held = self._held.get(port, ())
        if any(self._conflict(address, holder, at, other) for at, other in held):
            return -EADDRINUSE
        self._held.setdefault(port, []).append((address, holder))
        return port

    def hold(self, address: int, port: int, holder: Holder) -> None:
        """Give back a port that it had."""
        self._held.setdefault(port, []).append((address, holder))

    def _choose(self) -> int:
        for _ in EPHEMERAL:
            port = self._next
            self._next = port + 1 if port + 1 in EPHEMERAL else EPHEMERAL.start
            if port not in self._held:
                return port
        return 0

    @staticmethod
    def _conflict(address: int, holder: Holder, at: int, other: Holder) -> bool:
        if not (covers(address, holder.v6_only, at) or covers(at, other.v6_only, address)):
            return False
        if holder.reuse_port and other.reuse_port:
            return False
        return not (holder.reuse_address and other.reuse_address) or other.listening

    def release(self, port: int, holder: Holder) -> None:
        """Take the port back."""
        left = [entry for entry in self._held[port] if entry[1] is not holder]
        if left:
            self._held[port] = left
        else:
            del self._held[port]

    def find(self, address: int, port: int, *, listening: bool) -> Holder | None:
        """Who gets what is sent there: who is bound to just this address, before who takes all."""
        found = None
        for at, holder in self._held.get(port, ()):
            if listening and not holder.listening:
                continue
            if at == address:
                return holder
            if covers(at, holder.v6_only, address):
                found = holder
        return found
