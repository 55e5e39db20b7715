"""The host's side of the socket device, over Unix sockets.

A program on the host connects to ``uds_path``, says ``CONNECT <port>\\n`` and, once the guest has
accepted, reads ``OK <host port>\\n``; from then on the socket carries the stream.  A program that
the guest shall reach at port P listens at ``<uds_path>_P``.

Everything is non-blocking: a program that is slow, silent or gone costs nobody else anything.
"""

from __future__ import annotations

import _socket
import os

from pyrovm.errors import HostError, os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.virtio.device import Loop, Timer

MAX_LINE = 32  # bytes of "CONNECT <port>\n"
MAX_PORT = 0xFFFF_FFFF
BACKLOG = 1023  # programs that may wait to be accepted
MAX_CLIENTS = 1023  # that have not said where to; the oldest goes when there are more
ACCEPTS = 64  # in one wake-up
ACCEPT_PAUSE = 0.1  # seconds without descriptors before the next attempt
IOV_MAX = 1024  # of readv(2)


class UnixStream:
    """One end of a connected Unix socket."""

    __slots__ = ("_socket", "fd")

    def __init__(self, socket: _socket.socket) -> None:
        socket.setblocking(False)
        self._socket = socket
        self.fd = socket.fileno()

    def read(self, views: list[memoryview]) -> int | None:
        """Fill the views in order: bytes read, 0 at the end, None if there is nothing yet.

        Raises:
            HostError: the other end is gone, with something unread.
        """
        try:
            return os.readv(self.fd, views if len(views) <= IOV_MAX else views[:IOV_MAX])
        except BlockingIOError:
            return None
        except OSError as error:
            raise HostError.wrap("vsock: read", error) from None

    def write(self, views: list[memoryview]) -> int | None:
        """Take bytes from the views in order: how many; None if nobody reads any more.

        Raises:
            HostError: the socket is broken in another way.
        """
        try:
            few = views if len(views) <= IOV_MAX else views[:IOV_MAX]
            return self._socket.sendmsg(few, (), _socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0
        except (BrokenPipeError, ConnectionResetError):
            return None
        except OSError as error:
            raise HostError.wrap("vsock: write", error) from None

    def established(self, host_port: int) -> None:
        """Nothing to say to a program that the guest has connected to."""

    def close_write(self) -> None:
        """Let the program read the end."""
        self._shutdown(_socket.SHUT_WR)

    def close_read(self) -> None:
        """Let the program's next write fail."""
        self._shutdown(_socket.SHUT_RD)

    def _shutdown(self, how: int) -> None:
        try:
            self._socket.shutdown(how)
        except OSError:  # ENOTCONN: the other end is gone, which the next event tells
            pass

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class ClientStream(UnixStream):
    """The socket of a program that asked for the guest."""

    __slots__ = ()

    def established(self, host_port: int) -> None:
        """Tell the program.

        Raises:
            HostError: it is gone.
        """
        line = b"OK %d\n" % host_port
        if self.write([memoryview(line)]) != len(line):  # the socket was empty, so only if closed
            raise HostError("vsock: the program that asked for the guest is gone")


class _Client:
    """A program that has connected and not yet said where to."""

    __slots__ = ("line", "socket")

    def __init__(self, socket: _socket.socket) -> None:
        self.socket = socket
        self.line = b""


class UnixVsockHost:
    """Listens at ``uds_path`` from its making on; :meth:`start` begins to accept.

    The socket's file outlives us: whoever replaces or restarts the device removes it.

    Raises:
        HostError: the path is taken, or cannot be.
    """

    def __init__(self, uds_path: str) -> None:
        self._path = uds_path
        self._listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self._clients: dict[int, _Client] = {}
        self._loop: Loop | None = None
        self._pause: Timer | None = None
        try:
            self._listener.bind(uds_path)
            self._listener.listen(BACKLOG)
            self._listener.setblocking(False)
        except OSError as error:
            self._listener.close()
            why = os_error(error) if error.errno else str(error)  # a path of 108 bytes has no errno
            raise HostError(
                f"Error binding to the host-side Unix socket: {why}", error.errno or 0
            ) from None

    # -------------------------------------------------------- towards the guest

    def start(self, loop: Loop, connected: Callable[[UnixStream, int], None]) -> None:
        """Call ``connected(stream, guest_port)`` for each program that has said where to."""
        self._loop = loop
        self._connected = connected
        self._pause = loop.timer(lambda: loop.modify(self._listener.fileno(), 1))
        loop.watch(self._listener.fileno(), self._acceptable)

    def stop(self) -> None:
        """Let programs wait in the backlog; those in the middle of their line are sent away."""
        if self._loop is None:
            return
        for fd in list(self._clients):
            self._drop(fd)
        if self._pause is not None:
            self._pause.disarm()
            self._pause = None
        self._loop.unwatch(self._listener.fileno())
        self._loop = None

    def close(self) -> None:
        """Close the listening socket."""
        self.stop()
        self._listener.close()

    def _acceptable(self, _events: int) -> None:
        loop = self._loop
        assert loop is not None
        for _ in range(ACCEPTS):
            try:
                fd, _ = self._listener._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            except OSError:
                # No descriptors or no memory left.  The listener stays ready, so that looking
                # again at once would only burn time.
                assert self._pause is not None
                loop.modify(self._listener.fileno(), 0)
                self._pause.arm(ACCEPT_PAUSE)
                return
            if len(self._clients) >= MAX_CLIENTS:
                self._drop(next(iter(self._clients)))
            socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)
            socket.setblocking(False)
            self._clients[fd] = _Client(socket)
            loop.watch(fd, self._reader(fd))

    def _reader(self, fd: int) -> Callable[[int], None]:
        return lambda _events: self._readable(fd)

    def _readable(self, fd: int) -> None:
        """Read no further than the line: what follows is the guest's."""
        client = self._clients[fd]
        try:
            seen = client.socket.recv(MAX_LINE - len(client.line), _socket.MSG_PEEK)
            end = seen.find(b"\n") + 1
            line = client.socket.recv(end or len(seen)) if seen else b""
        except BlockingIOError:
            return
        except OSError:  # reset by the program
            self._drop(fd)
            return
        client.line += line
        if not end:
            if not line or len(client.line) >= MAX_LINE:
                self._drop(fd)
            return
        port = parse_connect(client.line)
        if port is None:
            self._drop(fd)
            return
        assert self._loop is not None
        del self._clients[fd]
        self._loop.unwatch(fd)
        self._connected(ClientStream(client.socket), port)

    def _drop(self, fd: int) -> None:
        assert self._loop is not None
        self._loop.unwatch(fd)
        self._clients.pop(fd).socket.close()

    # --------------------------------------------------------- from the guest

    def connect(self, port: int) -> UnixStream | None:
        """Connect to the program that listens for the guest's ``port``; None if it is busy.

        Raises:
            HostError: nobody listens there, or we have no descriptor left.
        """
        path = f"{self._path}_{port}"
        try:
            socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        except OSError as error:
            raise HostError.wrap(f"vsock: {path}", error) from None
        socket.setblocking(False)
        try:
            socket.connect(path)
        except BlockingIOError:  # its backlog is full
            socket.close()
            return None
        except OSError as error:
            socket.close()
            raise HostError.wrap(f"vsock: {path}", error) from None
        return UnixStream(socket)


def parse_connect(line: bytes) -> int | None:
    """The port in ``CONNECT <port>\\n``, the keyword in any case; None if the line is another."""
    words = line.split()
    if len(words) != 2 or words[0].lower() != b"connect" or not words[1].isdigit():
        return None
    port = int(words[1])
    return port if port <= MAX_PORT else None
