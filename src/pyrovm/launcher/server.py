"""The daemon: one thread that answers its clients, forks for them and reaps.

Nothing that a client does can hold up another: every message comes whole or not at all, answers
that nobody takes are dropped.
"""

from __future__ import annotations

import _socket
import gc
import os
import select
from time import monotonic, time

from pyrovm.errors import HostError, os_error
from pyrovm.host import signals
from pyrovm.launcher import passing, place, wire
from pyrovm.launcher.caller import Caller
from pyrovm.launcher.children import Children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyrovm.launcher.child import Entry
    from pyrovm.launcher.children import Child
    from pyrovm.launcher.record import Fields

BACKLOG = 128
CLIENTS_MAX = 64  # that have connected and not asked yet
ASK_S = 5.0  # for a client to ask
QUIET_MS = 10  # without a request, then the pool is filled: who starts may need the CPU
PATIENCE_S = 0.1  # where there is no such moment the pool is filled nevertheless
RETRY_S = 0.1  # when the process is out of descriptors
OUT_OF_DESCRIPTORS = (23, 24)  # ENFILE, EMFILE
PEERCRED, PEERCRED_SIZE = 17, 12
_TAKEN_OVER = ("word", "env", "fd", "blocked", "ignored")  # of a request, into the job


class Server:
    """Serves ``listener`` until it is told to stop, or has been idle for ``idle`` seconds."""

    def __init__(
        self,
        listener: _socket.socket,
        entries: Mapping[str, Entry],
        prepare: Callable[[], object],
        *,
        pool: int,
        limit: int,
        idle: float,
        any_cgroup: bool,
    ) -> None:
        self._listener = listener
        self._entries = entries
        self._cgroup = not any_cgroup
        self._idle = idle
        self._children = Children(entries, prepare, pool=pool, limit=limit)
        self._own = Caller(0, cgroup=self._cgroup)
        self._clients: dict[int, tuple[_socket.socket, float]] = {}  # and until when they may ask
        self._served: dict[int, Child | None] = {}  # whose client a descriptor is
        self._poll = select.poll()
        self._since = time()
        self._refused = self._failed = 0
        self._last_refusal = ""
        self._busy_at = self._full_at = monotonic()
        self._accept_at = 0.0
        self._stopping = False
        self._wake_in, wake_out = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signals.wake_up_fd(wake_out)
        signals.handle(signals.SIGCHLD, lambda _number, _frame: None)
        for number in (signals.SIGTERM, signals.SIGINT, signals.SIGHUP):
            signals.handle(number, self._stop)

    def _stop(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def run(self) -> None:
        """Serve; on return the listener is still open, and children may be at work."""
        # What is there now is never looked at again: a collection in a child would copy its pages.
        gc.collect()
        gc.freeze()
        for fd in (self._listener.fileno(), self._wake_in):
            self._poll.register(fd, select.POLLIN)
        while not self._stopping and not self._is_idle():
            ready = self._poll.poll(self._timeout_ms())
            for fd, events in ready:
                self._serve(fd, events)
            self._expire()
            if not self._lacks():
                self._full_at = monotonic()
            elif not ready or monotonic() - self._full_at >= PATIENCE_S:
                self._refill()
        self._children.dismiss()

    # ---------------------------------------------------------------------- time

    def _is_idle(self) -> bool:
        if self._children.at_work or self._clients:
            self._busy_at = monotonic()
        return bool(self._idle) and monotonic() - self._busy_at >= self._idle

    def _timeout_ms(self) -> int | None:
        children, waits = self._children, []
        if self._lacks():
            waits.append(QUIET_MS / 1000)
        if self._accept_at:
            waits.append(max(0.0, self._accept_at - monotonic()))
        if self._clients:
            waits.append(max(0.0, min(end for _, end in self._clients.values()) - monotonic()))
        if self._idle and not children.at_work:
            waits.append(max(0.0, self._busy_at + self._idle - monotonic()))
        return int(min(waits) * 1000) + 1 if waits else None

    def _expire(self) -> None:
        now = monotonic()
        for fd, (_, end) in list(self._clients.items()):
            if end <= now:
                self._drop(fd)
        if self._accept_at and now >= self._accept_at:
            self._accept_at = 0.0
            self._poll.register(self._listener.fileno(), select.POLLIN)

    def _lacks(self) -> bool:
        """Whether the pool has room for children that can be had."""
        children = self._children
        return len(children.waiting) < children.pool and not children.pool_failed

    def _refill(self) -> None:
        try:
            self._children.refill()
        except HostError as error:  # whoever asks for a VM will be told
            self._children.pool_failed = True
            self._last_refusal = str(error)

    # ------------------------------------------------------------------- clients

    def _serve(self, fd: int, events: int) -> None:
        if fd == self._listener.fileno():
            self._accept()
        elif fd == self._wake_in:
            os.read(fd, 4096)
            self._reap()
        elif fd in self._clients:
            self._ask(fd)
        elif fd in self._served:  # it has said all that it may, or is gone
            self._poll.unregister(fd)
            del self._served[fd]

    def _accept(self) -> None:
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno not in OUT_OF_DESCRIPTORS:
                raise
            self._poll.unregister(self._listener.fileno())
            self._accept_at = monotonic() + RETRY_S
            return
        client = _socket.socket(fileno=fd)
        client.setblocking(False)
        credentials = client.getsockopt(_socket.SOL_SOCKET, PEERCRED, PEERCRED_SIZE)
        if int.from_bytes(credentials[4:8], "little") != os.geteuid():
            _answer(client, [("failed", f"this launcher serves user {os.geteuid()} only")])
            client.close()
            return
        if len(self._clients) >= CLIENTS_MAX:
            _answer(client, [("refused", f"{CLIENTS_MAX} clients have not asked yet")])
            client.close()
            return
        self._clients[fd] = client, monotonic() + ASK_S
        self._poll.register(fd, select.POLLIN)

    def _drop(self, fd: int) -> None:
        self._poll.unregister(fd)
        client, _ = self._clients.pop(fd)
        client.close()

    def _ask(self, fd: int) -> None:
        client, _ = self._clients[fd]
        fds: list[int] = []
        try:
            data, fds = passing.receive(client, wire.MESSAGE_MAX, wire.JOB_FDS)
            fields = wire.decode(data)
            ask = fields.get("ask", [""])[0]
            if ask == "run":
                self._run(client, fields, fds)
                del self._clients[fd]  # the child's from now on
                return
            if ask == "status":
                self._status(client)
            elif ask == "stop":
                _answer(client, [("stopping", "")])
                self._stopping = True
        except _Refusal as refusal:
            self._refused += 1
            self._last_refusal = str(refusal)
            _answer(client, [("refused", str(refusal))])
        except HostError as error:
            self._failed += 1
            _answer(client, [("failed", str(error))])
        except (BlockingIOError, ConnectionError):
            pass
        except passing.TooMany as error:
            _answer(client, [("refused", str(error))])
        finally:
            for passed in fds:
                os.close(passed)
        self._drop(fd)

    def _run(self, client: _socket.socket, fields: Fields, fds: list[int]) -> None:
        """Have a child do what a client asks for.

        Raises:
            _Refusal: the client has to do it itself.
            HostError: nobody may.
        """
        kind = fields.get("kind", [""])[0]
        if fields.get("build") != [place.build()]:
            raise _Refusal("another build of pyrovm is running as the launcher")
        if kind not in self._entries or len(fds) != wire.FIXED + len(fields.get("fd", ())):
            raise _Refusal(f"what is asked for is not understood: {kind!r}, {len(fds)} descriptors")
        credentials = client.getsockopt(_socket.SOL_SOCKET, PEERCRED, PEERCRED_SIZE)
        try:
            caller = Caller(int.from_bytes(credentials[:4], "little"), cgroup=self._cgroup)
            if difference := self._own.difference(caller):
                raise _Refusal(f"the caller's {difference} differs from the launcher's")
            changes = caller.changes(self._own)
        except (HostError, OSError) as error:
            raise _Refusal(str(error)) from None
        kept = [(name, value) for name in _TAKEN_OVER for value in fields.get(name, ())]
        job = wire.encode([("kind", kind), *kept, *changes])
        of = self._children.take()
        of.kind, of.name = kind, _name(fields.get("word", []))
        pidfd = -1
        try:
            pidfd = os.pidfd_open(of.pid)
            passing.send(client, wire.encode([("started", str(of.pid))]), [pidfd])
            self._children.assign(of, job, fds, client)
        except OSError as error:
            if of.channel is not None:  # it has no job: let it end
                of.channel.close()
                of.channel = None
            raise _Refusal(f"the child cannot be told: {os_error(error)}") from None
        finally:
            if pidfd >= 0:
                os.close(pidfd)
        self._served[client.fileno()] = of

    def _reap(self) -> None:
        for of, status in self._children.reap():
            client = of.client
            if client is not None:
                if self._served.pop(client.fileno(), None) is not None:
                    self._poll.unregister(client.fileno())
                _answer(client, [("status", str(os.waitstatus_to_exitcode(status)))])
                client.close()

    def _status(self, client: _socket.socket) -> None:
        import json

        children = self._children
        report = {
            "pid": os.getpid(),
            "since": self._since,
            "started": children.started,
            "ended": children.ended,
            "failed": self._failed,
            "refused": self._refused,
            "last_refusal": self._last_refusal,
            "pool": {"size": children.pool, "waiting": [of.pid for of in children.waiting]},
            "max_children": children.limit,
            "idle_s": self._idle,
            "children": [
                {"pid": of.pid, "kind": of.kind, "name": of.name, "since": of.since}
                for of in children.by_pid.values()
                if of not in children.waiting
            ],
        }
        fd = os.memfd_create("launcher-status", os.MFD_CLOEXEC)
        try:
            os.write(fd, json.dumps(report).encode())
            passing.send(client, wire.encode([("report", "")]), [fd])
        finally:
            os.close(fd)


class _Refusal(Exception):
    """The launcher does not do it; the client can."""


def _answer(client: _socket.socket, fields: list[tuple[str, str]]) -> None:
    try:
        client.send(wire.encode(fields), _socket.MSG_NOSIGNAL | _socket.MSG_DONTWAIT)
    except OSError:  # it is gone
        pass


def _name(words: list[str]) -> str:
    """What ``status`` calls a child: its --id, or what it runs."""
    if "--id" in words[:-1]:
        return words[words.index("--id") + 1]
    return next((word for word in words if not word.startswith("-")), "")
