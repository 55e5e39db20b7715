"""Messages with descriptors over Unix sockets (SCM_RIGHTS, unix(7))."""

from __future__ import annotations

import _socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

INT_SIZE = 4
MOST = 253  # descriptors in one message: the kernel's SCM_MAX_FD


class TooMany(Exception):
    """More descriptors were sent than asked for, or the process has no room for them."""


def send(socket: _socket.socket, data: bytes, fds: Sequence[int] = ()) -> None:
    """Send ``data`` with descriptors, all at once.

    Raises:
        OSError: as sendmsg(2); a descriptor is closed, the other end is gone.
    """
    rights = []
    if fds:
        packed = b"".join(fd.to_bytes(INT_SIZE, "little") for fd in fds)
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)]
    socket.sendmsg([data], rights, _socket.MSG_NOSIGNAL)


def receive(
    socket: _socket.socket, size: int, most: int, flags: int = 0
) -> tuple[bytes, list[int]]:
    """The next message of up to ``size`` bytes, and its descriptors, which are the caller's.

    Raises:
        OSError: as recvmsg(2).
        TooMany: there were more than ``most``; all are closed.
    """
    room = _socket.CMSG_SPACE(INT_SIZE * most)
    flags |= _socket.MSG_CMSG_CLOEXEC
    data, ancillary, found, _ = socket.recvmsg(size, room, flags)
    fds: list[int] = []
    for level, kind, raw in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            fds += memoryview(raw)[: len(raw) // INT_SIZE * INT_SIZE].cast("i")
    if found & _socket.MSG_CTRUNC or len(fds) > most:
        import os

        for fd in fds:
            os.close(fd)
        raise TooMany(f"more than {most} descriptors, or more than this process may have")
    return data, fds
