"""The launcher's clients: a VM's process made by it, its signals and its end.

Imported where start-up counts, and by the SDK, so it knows nothing of the engine.
"""

from __future__ import annotations

import _socket
import os

from pyrovm.launcher import passing, place, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pyrovm.launcher.record import Fields

ANSWER_S = 5.0  # for the launcher and the child to answer; then the VM is started without them
PEERCRED, PEERCRED_SIZE = 17, 12
SIGKILL = 9


class Unavailable(Exception):
    """The VM is to be started without the launcher; says why.

    ``left_over``: a launcher was there, and has not gone by itself.
    """

    def __init__(self, reason: str, *, left_over: bool = False) -> None:
        super().__init__(reason)
        self.left_over = left_over


class Failed(Exception):
    """The launcher says that there shall be no VM; says why."""


def connect() -> _socket.socket:
    """The launcher of this user.

    Raises:
        Unavailable: none is there.
    """
    path = place.socket_path()
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        socket.settimeout(ANSWER_S)
        socket.connect(path)
        credentials = socket.getsockopt(_socket.SOL_SOCKET, PEERCRED, PEERCRED_SIZE)
    except ConnectionRefusedError:
        socket.close()
        raise Unavailable("the launcher is gone", left_over=True) from None
    except (OSError, ValueError) as error:
        socket.close()
        raise Unavailable(f"no launcher: {error}") from None
    if int.from_bytes(credentials[4:8], "little") != os.geteuid():
        socket.close()
        raise Unavailable(f"whoever listens on {path} is another user")
    return socket


def reach(switch: str) -> _socket.socket:
    """The launcher, started if it is to be.

    One that was killed is replaced in any case, for whoever comes next.

    Raises:
        Unavailable: there is none to be had now.
    """
    try:
        return connect()
    except Unavailable as error:
        if switch != place.ON and not error.left_over:
            raise
        from pyrovm.errors import HostError
        from pyrovm.launcher import spawn

        try:
            spawn.start(wait=switch == place.ON)
        except (HostError, OSError) as problem:
            raise Unavailable(str(problem)) from None
        if switch != place.ON:
            raise
    return connect()


class Launched:
    """A VM's process that the launcher has made; it dies when this is closed, or we are.

    ``pid`` is its number.
    """

    def __init__(
        self,
        socket: _socket.socket,
        kind: str,
        words: Sequence[str],
        fds: Mapping[int, int],
        *,
        environment: Mapping[str, str],
        blocked: Iterable[int] = (),
        ignored: Iterable[int] = (),
    ) -> None:
        """Have it made; ``socket`` belongs to it, ``fds`` are ours by the numbers it has them as.

        Raises:
            Unavailable: it is not, and nothing has happened.
            Failed: it shall not be.
        """
        self._control = socket
        self.pid = self.pidfd = -1
        self.status: int | None = None  # as subprocess has it: negative is a signal
        self._left: int | None = None
        self._launcher_gone = False
        self.lifeline, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self.lifeline.settimeout(ANSWER_S)
        try:
            self._request(theirs, kind, words, fds, environment, blocked, ignored)
        except BaseException:
            self.close()
            raise

    def _request(
        self,
        theirs: _socket.socket,
        kind: str,
        words: Sequence[str],
        fds: Mapping[int, int],
        environment: Mapping[str, str],
        blocked: Iterable[int],
        ignored: Iterable[int],
    ) -> None:
        folder = -1
        try:
            message = wire.encode(
                [
                    ("ask", "run"),
                    ("kind", kind),
                    ("build", place.build()),
                    *(("word", word) for word in words),
                    *(("env", f"{name}={value}") for name, value in environment.items()),
                    *(("fd", str(number)) for number in fds),
                    *(("blocked", str(number)) for number in blocked),
                    *(("ignored", str(number)) for number in ignored),
                ]
            )
            folder = os.open(".", os.O_PATH | os.O_CLOEXEC)
            passing.send(self._control, message, [theirs.fileno(), folder, *fds.values()])
            theirs.close()
            answer, passed = passing.receive(self._control, wire.MESSAGE_MAX, 1)
            fields = wire.decode(answer)
            if passed:
                self.pidfd = passed[0]
            _check(fields)
            if "started" not in fields or not passed:
                raise Unavailable("the launcher ends")
            self.pid = int(fields["started"][0])
            # Only this says that something happens; what ends before it has done nothing.
            said = wire.decode(self.lifeline.recv(wire.MESSAGE_MAX))
            _check(said)
            if "running" not in said:
                raise Unavailable("the child has ended before it did anything")
        except (OSError, ValueError, passing.TooMany) as error:
            raise Unavailable(str(error)) from None
        finally:
            theirs.close()
            if folder >= 0:
                os.close(folder)
        self._control.setblocking(False)
        self.lifeline.setblocking(False)

    def fileno(self) -> int:
        """Of what is readable when :meth:`poll` may say more: as long as nobody else reads it."""
        return (self.lifeline if self._launcher_gone else self._control).fileno()

    def poll(self) -> int | None:
        """How it has ended, if it has: a status, or minus a signal."""
        if self.status is None and not self._launcher_gone:
            try:
                fields = wire.decode(self._control.recv(wire.MESSAGE_MAX))
            except BlockingIOError:
                return None
            except OSError:
                fields = {}
            if "status" in fields:
                self.status = int(fields["status"][0])
            else:
                self._launcher_gone = True
        if self.status is None:
            self._look_ourselves()
        return self.status

    def wait(self, timeout: float | None = None) -> int | None:
        """As :meth:`poll`, waiting up to ``timeout`` seconds (None: for ever)."""
        import select
        from time import monotonic

        until = None if timeout is None else monotonic() + timeout
        while True:
            status = self.poll()
            left = None if until is None else until - monotonic()
            if status is not None or (left is not None and left <= 0):
                return status
            select.select([self.fileno()], [], [], left)

    def _look_ourselves(self) -> None:
        """Without a launcher: the child's own word, or the kernel's."""
        while True:
            try:
                data = self.lifeline.recv(wire.MESSAGE_MAX)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                break
            left = wire.decode(data).get("left")
            if left:
                self._left = int(left[0])
        if self._left is not None:
            self.status = self._left
            return
        from pyrovm.launcher.pidfd import exit_status

        self.status = exit_status(self.pidfd, self.pid)

    def send_signal(self, number: int) -> None:
        """Send it a signal; nothing where it has ended."""
        if self.pidfd < 0:
            return
        import _signal  # type: ignore[import-not-found]

        try:
            _signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            pass

    def close(self) -> None:
        """Kill it if it runs, and forget it."""
        self._control.close()
        self.lifeline.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def _check(fields: Fields) -> None:
    if "failed" in fields:
        raise Failed(fields["failed"][0])
    if "refused" in fields:
        raise Unavailable(fields["refused"][0])


def ask(what: str) -> bytes:
    """``status`` (JSON) or ``stop`` (empty) of the running launcher.

    Raises:
        Unavailable: none runs, or it does not answer.
    """
    socket = connect()
    try:
        passing.send(socket, wire.encode([("ask", what)]))
        data, fds = passing.receive(socket, wire.MESSAGE_MAX, 1)
        _check(wire.decode(data))
        if not fds:
            return b""
        with open(fds[0], "rb") as file:
            file.seek(0)
            return file.read()
    except (OSError, passing.TooMany) as error:
        raise Unavailable(f"the launcher does not answer: {error}") from None
    finally:
        socket.close()
