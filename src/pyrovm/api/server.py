"""The API's Unix socket: connections on the event loop, one request at a time.

A connection is either read or written: while a response waits for a slow client, or requests wait
for their turn, nothing more is read from it.  So a client can make us hold one response and one
chunk of input, whatever it does, and nobody waits for it.
"""

from __future__ import annotations

import _socket
from time import monotonic_ns

from pyrovm.api.http import (
    DEFAULT_PAYLOAD_LIMIT,
    TOO_MANY_CONNECTIONS,
    BadRequest,
    Continue,
    RequestParser,
    bad_request,
    response,
)
from pyrovm.errors import HostError, os_error
from pyrovm.machine.loop import EPOLLIN, EPOLLOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.api.http import Event, Request
    from pyrovm.machine.log import Log
    from pyrovm.machine.loop import EventLoop

    Handler = Callable[[Request], bytes]

MAX_CONNECTIONS = 10
BACKLOG = 128
CHUNK = 16384  # bytes read at once
TURN = 16  # requests of one connection served before the others get a turn
ACCEPTS = 16  # connections accepted in one round
OUT_OF_DESCRIPTORS = (23, 24)  # ENFILE, EMFILE
RETRY_ACCEPT = 0.1  # seconds, when the process is out of descriptors
NS_PER_US = 1000


class ApiSocket:
    """The listening socket; made early, so that clients can connect before anything else is ready.

    Raises:
        HostError: the path is in use or cannot be bound.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket = _socket.socket(
            _socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
        )
        try:
            self._socket.bind(path)
            self._socket.listen(BACKLOG)
        except OSError as error:
            self._socket.close()
            if error.errno is None:  # "AF_UNIX path too long" is Python's own
                error = OSError(36, "Filename too long")
            raise HostError.wrap(f"Cannot bind the API socket {path}", error) from None

    def fileno(self) -> int:
        return self._socket.fileno()

    def accept(self) -> _socket.socket | None:
        """The next connection, not blocking; None if there is none.

        Raises:
            OSError: the process is out of descriptors or memory.
        """
        try:
            fd, _ = self._socket._accept()  # type: ignore[attr-defined]
        except (BlockingIOError, ConnectionAbortedError):
            return None
        connection = _socket.socket(fileno=fd)
        connection.setblocking(False)
        return connection

    def close(self) -> None:
        """Stop listening; the file stays, as it always has."""
        self._socket.close()


class _Connection:
    """One client: what it has asked and not been answered, what it has not yet taken."""

    __slots__ = ("events", "fd", "out", "parser", "socket")

    def __init__(self, socket: _socket.socket, payload_limit: int) -> None:
        self.socket = socket
        self.fd = socket.fileno()
        self.parser = RequestParser(payload_limit)
        self.events: list[Event] = []
        self.out = b""


class ApiServer:
    """Serves ``listener`` on ``loop``: ``handle`` makes one response of one request."""

    def __init__(
        self,
        loop: EventLoop,
        listener: ApiSocket,
        handle: Handler,
        *,
        log: Log,
        payload_limit: int = DEFAULT_PAYLOAD_LIMIT,
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._handle = handle
        self._log = log
        self._payload_limit = payload_limit
        self._connections: dict[int, _Connection] = {}
        self._retry = loop.timer(self._listen)
        self._listen()

    def _listen(self) -> None:
        self._loop.watch(self._listener.fileno(), self._acceptable)

    def _acceptable(self, _events: int) -> None:
        for _ in range(ACCEPTS):
            try:
                socket = self._listener.accept()
            except OSError as error:
                self._log.guest(
                    f"API Server error on retrieving incoming request: {os_error(error)}"
                )
                self._loop.unwatch(self._listener.fileno())
                self._retry.arm(RETRY_ACCEPT)
                return
            if socket is None:
                return
            if len(self._connections) >= MAX_CONNECTIONS:
                _send(socket, TOO_MANY_CONNECTIONS)
                socket.close()
                continue
            connection = _Connection(socket, self._payload_limit)
            self._connections[connection.fd] = connection
            self._loop.watch(connection.fd, self._handler_of(connection))

    def _handler_of(self, connection: _Connection) -> Callable[[int], None]:
        def ready(events: int) -> None:
            if events & EPOLLOUT or connection.out or connection.events:
                self._serve(connection)
            else:
                self._read(connection)

        return ready

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # the client is gone, or wants nothing more; all its answers are sent
            self._drop(connection)
            return
        connection.events = _answerable(connection.parser.feed(data))
        self._serve(connection)

    def _serve(self, connection: _Connection) -> None:
        """Send what is there, then answer some requests; decide what to wait for."""
        for _ in range(TURN):
            if not self._flush(connection):
                return
            if not connection.events:
                break
            connection.out = self._answer(connection.events.pop(0))
        else:
            if not self._flush(connection):
                return
        wanted = EPOLLOUT if connection.events else EPOLLIN
        self._loop.modify(connection.fd, wanted)

    def _flush(self, connection: _Connection) -> bool:
        """Whether everything has been sent; if not, the rest waits, or nobody is there any more."""
        if not connection.out:
            return True
        sent = _send(connection.socket, connection.out)
        if sent < 0:
            self._drop(connection)
            return False
        connection.out = connection.out[sent:]
        if connection.out:
            self._loop.modify(connection.fd, EPOLLOUT)
            return False
        return True

    def _answer(self, event: Event) -> bytes:
        if isinstance(event, Continue):
            return response(100, version=event.version)
        if isinstance(event, BadRequest):
            return bad_request(event.reason)
        began = monotonic_ns()
        try:
            answer = self._handle(event)
        except OSError as error:
            # The host's refusals arrive as faults.  This one is Python's own: with clients holding
            # the last descriptors, a module that is imported only now cannot be opened.  No reason
            # to end a guest; a later request imports it.
            if error.errno not in OUT_OF_DESCRIPTORS:
                raise
            self._log.error(f"API Server cannot answer: {os_error(error)}")
            return response(503, b'{"fault_message":"Out of file descriptors. Try again later."}')
        took = (monotonic_ns() - began) // NS_PER_US
        self._log.debug(f"Total previous API call duration: {took} us.")
        return answer

    def _drop(self, connection: _Connection) -> None:
        self._loop.unwatch(connection.fd)
        connection.socket.close()
        del self._connections[connection.fd]

    def close(self) -> None:
        """Close all connections and the listener; clients see the end of the stream."""
        self._retry.disarm()
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._loop.unwatch(self._listener.fileno())
        self._listener.close()


def _answerable(events: list[Event]) -> list[Event]:
    """``events`` without the requests that come before one that is malformed."""
    last_bad = max(
        (i for i, event in enumerate(events) if isinstance(event, BadRequest)), default=-1
    )
    return [e for i, e in enumerate(events) if i >= last_bad or isinstance(e, BadRequest)]


def _send(socket: _socket.socket, data: bytes) -> int:
    """How many bytes the socket took; -1 if the client is gone."""
    try:
        return socket.send(data, _socket.MSG_NOSIGNAL)
    except BlockingIOError:
        return 0
    except OSError:
        return -1
