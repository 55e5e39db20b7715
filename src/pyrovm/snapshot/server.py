"""``pyrovm snapshot serve``: one memory file for any number of VMs, over a Unix socket.

For each VM that connects: one message with its userfaultfd (:mod:`.uffd` has the form), then its
faults (:mod:`.faults`) until it goes.  The pages that the first VM asks for are remembered as the
file's working set, and brought to later ones before they ask.  An error of one VM costs that VM its
handler, which is told why and ends; the others are served on.
"""

from __future__ import annotations

import os
import select
import socket
from array import array
from time import monotonic

from pyrovm.errors import HostError, PyrovmError
from pyrovm.snapshot import working_set
from pyrovm.snapshot.faults import Guest, MemoryFile, parts_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.snapshot.pages import Range

MESSAGE_MAX = 64 << 10  # bytes; a part of memory takes about 120
HELLO_TIMEOUT = 5.0  # seconds for a VM that connects to say what it wants
PIECE = 1 << 20  # bytes of a working set, between two looks at the faults
_SOON = 0.001  # seconds until a call is repeated for which the kernel was busy
_DESCRIPTOR_SIZE = 4
_DESCRIPTORS_MAX = 8  # of which one is wanted


class Connection:
    """A VM that has connected; ``guest`` once it has said what it wants."""

    def __init__(self, link: socket.socket, number: int) -> None:
        self.link = link
        self.name = f"VM {number}"
        self.deadline = monotonic() + HELLO_TIMEOUT
        self.guest: Guest | None = None
        self.ahead: list[Range] = []  # of the working set, the next one last
        self.again = False
        self._message = b""
        self._files: list[int] = []

    def receive(self) -> bool:
        """Take what the VM sends; False when it has gone.

        Raises:
            PyrovmError: it sends what no VM does.
        """
        try:
            data, ancillary, _, _ = self.link.recvmsg(
                MESSAGE_MAX,
                socket.CMSG_SPACE(_DESCRIPTORS_MAX * _DESCRIPTOR_SIZE),
                socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT,
            )
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        for level, kind, rights in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                whole = len(rights) - len(rights) % _DESCRIPTOR_SIZE
                self._files.extend(array("i", rights[:whole]))
        if not data:
            return False
        self._message += data
        if self.guest is not None or len(self._message) > MESSAGE_MAX:
            raise HostError(f"more than one message of {MESSAGE_MAX} bytes at most")
        return True

    def wanted(self, file: MemoryFile) -> Guest | None:
        """What the VM asks for, when all of it has come.

        Raises:
            PyrovmError: it cannot have that.
        """
        if not self._message.endswith(b"]"):
            return None
        parts = parts_of(self._message, file.size)
        if len(self._files) != 1:
            raise HostError(f"{len(self._files)} descriptors came; the userfaultfd is wanted")
        return Guest(file, self._files.pop(), parts)

    def close(self, reason: str = "") -> None:
        """Let go of the VM; a ``reason`` ends it."""
        if reason:
            try:
                self.link.send(reason.encode(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except OSError:  # it has gone
                pass
        for fd in self._files:
            os.close(fd)
        self._files.clear()
        if self.guest is not None:
            self.guest.close()
        self.link.close()


class Server:
    """Serves ``memory_path`` at ``socket_path``; ``say`` is told what happens, by lines.

    Raises:
        PyrovmError: there is no such memory file, or nobody can listen there.
    """

    def __init__(
        self,
        memory_path: str,
        socket_path: str,
        *,
        say: Callable[[str], object] = print,
        use_working_set: bool = True,
        record_seconds: float = working_set.RECORD_SECONDS,
    ) -> None:
        self._file = MemoryFile(memory_path)
        self._say = say
        self._use_working_set = use_working_set
        self._record_seconds = record_seconds
        self._recorded: Connection | None = None  # whose pages are remembered
        self._record_until = 0.0
        self._path = socket_path
        self._socket = _listen(socket_path)
        self._epoll = select.epoll()
        self._epoll.register(self._socket.fileno(), select.EPOLLIN)
        self._connections: dict[int, Connection] = {}  # by either descriptor
        self._count = 0
        self._ahead = working_set.load(memory_path) if use_working_set else []

    def run(self, *, once: bool = False, stop_fd: int = -1) -> None:
        """Serve until ``stop_fd`` is readable; ``once``: until the first VM has gone.

        Raises:
            HostError: the listening socket fails.
        """
        if stop_fd >= 0:
            self._epoll.register(stop_fd, select.EPOLLIN)
        while not (once and self._count and not self._connections):
            ready = {fd for fd, _ in self._epoll.poll(self._timeout())}
            if stop_fd in ready:
                return
            if self._socket.fileno() in ready:
                self._accept()
                if once and self._count:
                    self._epoll.unregister(self._socket.fileno())
            for connection in dict.fromkeys(self._connections.values()):
                self._attend(connection, ready)
            if self._recorded is not None and monotonic() >= self._record_until:
                self._remember()

    def _timeout(self) -> float | None:
        connections = set(self._connections.values())
        if any(each.ahead for each in connections):
            return 0.0
        if any(each.again for each in connections):
            return _SOON
        deadlines = [each.deadline for each in connections if each.guest is None]
        if self._recorded is not None:
            deadlines.append(self._record_until)
        return max(0.0, min(deadlines) - monotonic()) if deadlines else None

    def _accept(self) -> None:
        try:
            accepted, _ = self._socket.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:
            raise HostError.wrap(f"Cannot accept a VM at {self._path}", error) from None
        self._count += 1
        connection = Connection(accepted, self._count)
        self._connections[accepted.fileno()] = connection
        self._epoll.register(accepted.fileno(), select.EPOLLIN)

    def _attend(self, connection: Connection, ready: set[int]) -> None:
        """One VM's turn; what it cannot have ends it, and nobody else."""
        try:
            if not self._is_served(connection, ready):
                self._drop(connection)
        except ProcessLookupError:
            self._drop(connection)
        except PyrovmError as error:
            self._say(f"{connection.name}: {error}")
            self._drop(connection, str(error))

    def _is_served(self, connection: Connection, ready: set[int]) -> bool:
        if connection.link.fileno() in ready:
            if not connection.receive():
                return False
            if connection.guest is None:
                self._greet(connection)
        guest = connection.guest
        if guest is None:
            if monotonic() >= connection.deadline:
                raise HostError(f"nothing was asked for within {HELLO_TIMEOUT:.0f} s")
            return True
        if connection.again or guest.uffd in ready:
            connection.again = guest.serve()
        if connection.ahead:
            start, end = connection.ahead.pop()
            if end - start > PIECE:
                connection.ahead.append((start + PIECE, end))
            guest.bring(start, min(end, start + PIECE))
        return True

    def _greet(self, connection: Connection) -> None:
        guest = connection.wanted(self._file)
        if guest is None:
            return
        connection.guest = guest
        if not _is_userfaultfd(guest.uffd):
            raise HostError("the descriptor that came is no userfaultfd")
        os.set_blocking(guest.uffd, False)  # the peer may have left it out
        self._epoll.register(guest.uffd, select.EPOLLIN)
        self._connections[guest.uffd] = connection
        connection.ahead = self._ahead[::-1]
        size = sum(end - start for start, end in self._ahead)
        self._say(f"{connection.name}: served, {size >> 10} KiB ahead")
        if self._use_working_set and not self._ahead and self._recorded is None:
            self._recorded = connection
            self._record_until = monotonic() + self._record_seconds

    def _remember(self) -> None:
        connection, self._recorded = self._recorded, None
        if connection is None or connection.guest is None or not connection.guest.asked:
            return
        self._ahead = _in_order(connection.guest.asked)
        try:
            working_set.save(self._file.path, self._ahead)
        except HostError as error:  # a hint that is not kept for the next time
            self._say(f"working set: {error}")
            return
        name = f"{self._file.path}{working_set.SUFFIX}"
        self._say(f"working set: {len(self._ahead)} ranges in {name}")

    def _drop(self, connection: Connection, reason: str = "") -> None:
        if connection is self._recorded:
            self._remember()
        guest = connection.guest
        self._epoll.unregister(connection.link.fileno())
        for fd in [fd for fd, each in self._connections.items() if each is connection]:
            del self._connections[fd]
        if guest is not None:
            self._say(
                f"{connection.name}: gone after {guest.faults} faults, {guest.copied} pages of the "
                f"file, {guest.zeroed} of zeros"
            )
        connection.close(reason)

    def close(self) -> None:
        """Leave all VMs, which ends them, and remove the socket."""
        for connection in dict.fromkeys(self._connections.values()):
            self._drop(connection, "it was told to stop")
        self._epoll.close()
        self._socket.close()
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass
        self._file.close()


def _is_userfaultfd(fd: int) -> bool:
    return os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[userfaultfd]"


def _in_order(asked: list[Range]) -> list[Range]:
    """Ranges in the order of their first need, those that touch joined."""
    found: list[Range] = []
    for start, end in asked:
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def _listen(path: str) -> socket.socket:
    listener = socket.socket(
        socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    )
    try:
        if _is_left_over(path):
            os.unlink(path)
        listener.bind(path)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno is None:
            raise HostError(f"Cannot listen at {path}: {error}") from None
        raise HostError.wrap(f"Cannot listen at {path}", error) from None
    return listener


def _is_left_over(path: str) -> bool:
    """Whether there is a socket at which nobody listens any more."""
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        probe.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:  # nothing there, or no socket: bind says so
        return False
    finally:
        probe.close()
    return False
