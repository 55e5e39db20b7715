"""The process of a template: it runs the program until it is ready, and then forks its branches.

Its channel is that of any VM's process (wire.py) until the program is ready.  From then on the
caller sends on it what it sends to the helper: four descriptors, a channel and three streams, for
each branch.  On the branch's channel the request for it follows, a record, and comes back

* STARTED and a record that says which VM it is: its generation, and where its ports are published;
* the report when the program has ended.

Spare branches, forked in advance with their registers loaded, wait on the same channel; whichever
of them is first takes the next request, and says so to this process, which makes another one.
"""

from __future__ import annotations

import _socket
import gc
import os
import select
from struct import Struct
from time import perf_counter_ns

from pyrovm.errors import ConfigError, PyrovmError
from pyrovm.host import libc, signals
from pyrovm.launcher import passing
from pyrovm.programs import wire
from pyrovm.programs.branching import Branching
from pyrovm.programs.session import Session, receive_descriptors, take_streams
from pyrovm.unikernel.branch import Rest
from pyrovm.unikernel.readiness import Readiness
from pyrovm.unikernel.saving import save

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.unikernel.calls import Calls
    from pyrovm.unikernel.outside import Outside
    from pyrovm.unikernel.run import Pause
    from pyrovm.unikernel.saving import Saved

SPARES_MAX = 1024
# Of a request, what a saved template is run with again.
KEPT = (
    *("image", "exe", "libos", "argv", "cwd", "hostname", "memory", "cpus"),
    *("allow", "publish", "volume", "functions"),
)
SYS_PRCTL, PR_SET_PDEATHSIG = 157, 1
_PID = Struct("<I")


class Template(Branching):
    """``attach`` and ``paused`` are run()'s ``prepare`` and ``paused``."""

    def __init__(
        self, session: Session, request: wire.Fields, outside: Outside, saved: Saved | None
    ) -> None:
        """``saved`` is where the VM comes from, unless it is a new one.

        Raises:
            ConfigError: the request is none.
        """
        self._request = request
        self._saved = saved
        super().__init__(session, outside)
        self._readiness = Readiness(request["ready"][0])
        self._wanted = int(request.get("spares", ["0"])[0])
        if not 0 <= self._wanted <= SPARES_MAX:
            raise ConfigError(f"pool: {self._wanted} given; 0 to {SPARES_MAX} are allowed")
        self._pid = os.getpid()
        self._children: set[int] = set()
        self._spares: set[int] = set()

    def attach(self, calls: Calls) -> Callable[[], None]:
        """Serve the guest, and watch for its being ready."""
        finish = self._outside.attach(calls)
        self._readiness.watch(calls, self._outside)
        if self._saved:
            self._saved.restore(calls, self._outside)
        return finish

    def paused(self, pause: Pause) -> None:
        """Serve branches until nobody wants any more; returns in each of them."""
        self._pause = pause
        self._rest = Rest(pause.vm, pause.calls.waiting)
        if "save" in self._request:
            self._save(self._request["save"][0])
        self._rest.detach()
        self._outside.let_go()
        self._release_streams()
        self._rest.use_huge_pages()
        gc.collect()
        gc.freeze()
        self._session.live_on()
        self._taken_in, self._taken_out = os.pipe2(os.O_CLOEXEC)
        self._wake_in, self._wake_out = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._ours = self._taken_in, self._taken_out, self._wake_in, self._wake_out
        signals.wake_up_fd(self._wake_out)
        signals.handle(signals.SIGCHLD, lambda _number, _frame: None)
        self._session.send([("ready", "1")])
        if self._serve():
            os._exit(0)

    def _save(self, folder: str) -> None:
        kept = {name: self._request[name] for name in KEPT if name in self._request}
        config = {"request": kept, "ready": self._request["ready"][0]}
        save(folder, self._rest, self._outside, config, self._request["libos"][0])

    def _release_streams(self) -> None:
        """Whoever reads what the template has written finds its end."""
        self._pause.stdio.close()
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for number in range(3):
            os.dup2(null, number, inheritable=False)
        os.close(null)

    # -------------------------------------------------------------------------------- serving

    def _serve(self) -> bool:
        """True when there is nobody left to serve; False in a branch."""
        channel = self._session.channel
        poll = select.poll()
        poll.register(self._wake_in, select.POLLIN)
        poll.register(self._taken_in, select.POLLIN)
        while True:
            # While there are spares the requests are theirs; that all is over is told anyway.
            poll.register(channel, 0 if self._spares else select.POLLIN)
            is_full = len(self._spares) >= self._wanted
            events = dict(poll.poll(None if is_full else 0))
            if self._wake_in in events:
                os.read(self._wake_in, 4096)
                self._reap()
            if self._taken_in in events:
                (pid,) = _PID.unpack(os.read(self._taken_in, _PID.size))
                self._spares.discard(pid)
            found = events.get(channel.fileno(), 0)
            if found & select.POLLIN and not self._spares:
                fds = receive_descriptors(channel)
                if fds is None:
                    return True
                if not self._fork_for(fds):
                    return False
            elif found & (select.POLLHUP | select.POLLERR):
                return True
            elif not events and not is_full and not self._fork(self._wait):
                return False

    def _reap(self) -> None:
        while self._children:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            self._children.discard(pid)
            self._spares.discard(pid)

    def _forked(self, pid: int, *, is_spare: bool) -> None:
        self._children.add(pid)
        if is_spare:
            self._spares.add(pid)

    def _not_forked(self) -> None:
        self._wanted = 0  # those that are asked for come first

    # ------------------------------------------------------------------------------- branches

    def _wait(self) -> None:
        """Be a spare: ready to run, until a request comes."""
        # Were the template killed, the spares would go on to take requests, and nobody would know.
        libc.syscall(SYS_PRCTL, PR_SET_PDEATHSIG, signals.SIGKILL)
        if os.getppid() != self._pid:
            os._exit(0)
        problem = ""
        try:
            self._wake()
            self._rehearse()
        except PyrovmError as error:
            problem = str(error)
        fds = receive_descriptors(self._session.channel)
        if fds is None:
            os._exit(0)
        os.write(self._taken_out, _PID.pack(os.getpid()))
        libc.syscall(SYS_PRCTL, PR_SET_PDEATHSIG, 0)
        self._forked_ns = perf_counter_ns()
        self._go_on(fds, problem, is_awake=True)

    def _rehearse(self) -> None:
        """Answer a request of our own that changes nothing: what is written to then, Python's
        objects, is copied now and not when the real one comes."""
        try:
            near, far = _socket.socketpair()
        except OSError:  # no descriptors left: the request will meet that too, and tell
            return
        session = Session(near.detach())
        none = [0] * wire.DESCRIPTORS
        try:
            passing.send(far, wire.PASS, none)  # our standard input, which is /dev/null as all are
            channel, *streams = receive_descriptors(session.channel) or none
            if channel:
                os.close(channel)
                take_streams(streams)
            far.sendall(wire.encode([("argument", "")]))
            session.begin()
            self._pause.stdio.open()
            self._pause.calls.set_streams(self._pause.stdio.fds)
            session.send([("generation", "0")])
        except OSError:  # too many descriptors on their way: then it is the request that pays
            pass
        finally:
            session.channel.close()  # before the other end, or SIGIO would end us
            far.close()
