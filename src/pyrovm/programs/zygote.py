"""The helper: a process with the engine loaded, which forks one process for each VM.

A forked VM need not start an interpreter nor import anything, and shares that memory with all
others.  The helper has no threads and few modules, so a fork of it is cheap and safe.  One process
is always forked ahead, and has made a VM when the next program comes.

It ends when its caller does, or closes the control socket; then it kills its VMs.  The caller's
pidfd says so, not PR_SET_PDEATHSIG: that signal comes when the *thread* that started us ends.
"""

from __future__ import annotations

import _socket
import gc
import os
import select

from pyrovm.errors import PyrovmError
from pyrovm.host import libc, signals
from pyrovm.programs import wire
from pyrovm.programs.living import Live
from pyrovm.programs.resting import Template
from pyrovm.programs.session import Session, failure, receive_descriptors, take_streams
from pyrovm.programs.spare import Spares
from pyrovm.unikernel.outside import Outside
from pyrovm.unikernel.prepared import Prepared
from pyrovm.unikernel.program import DEFAULT_MEMORY, Program
from pyrovm.unikernel.readiness import AT_ONCE
from pyrovm.unikernel.run import run
from pyrovm.unikernel.saving import Saved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CONTROL, CALLER = 3, 4  # descriptors: the control socket, the pidfd of the caller
OPEN_MAX = 1 << 20
SYS_PRCTL, PR_SET_CHILD_SUBREAPER = 157, 36


def main(libos: str) -> None:
    """Serve until the caller is gone; ``libos`` is the library OS's file for most programs."""
    os.closerange(CALLER + 1, OPEN_MAX)  # whatever the caller has left inheritable
    libc.syscall(SYS_PRCTL, PR_SET_CHILD_SUBREAPER, 1)  # of a template that was killed
    os.chdir("/")  # the caller's folder may be removed or unmounted
    control = _socket.socket(fileno=CONTROL)
    for fd in (CONTROL, CALLER):
        os.set_inheritable(fd, False)
    wake_in, wake_out = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signals.wake_up_fd(wake_out)
    signals.handle(signals.SIGCHLD, lambda _number, _frame: None)
    poll = select.poll()
    for fd in (CONTROL, CALLER, wake_in):
        poll.register(fd, select.POLLIN)
    children: set[int] = set()
    load()
    # What is there now is never looked at again: a collection in a child would copy its pages.
    gc.collect()
    gc.freeze()
    control.send(wire.READY)
    spares = Spares(children, (CONTROL, CALLER, wake_in, wake_out), lambda: prepare(libos))
    while True:
        spares.refill()
        events = {fd for fd, _ in poll.poll()}
        if wake_in in events:
            os.read(wake_in, 4096)
            reap(children)
        if CALLER in events:
            break
        if CONTROL in events:
            fds = receive_descriptors(control)
            if fds is None:
                break
            if len(fds) == wire.DESCRIPTORS:
                spares.give(fds)
            for fd in fds:
                os.close(fd)
    for pid in children:  # ours, and not waited for yet: the number is theirs
        os.kill(pid, signals.SIGKILL)
    os._exit(0)


def load() -> None:
    """Import what VMs need, once for all of them; they would do it later, each for itself."""
    from pyrovm.kvm import system  # noqa: F401
    from pyrovm.snapshot import pages  # noqa: F401
    from pyrovm.unikernel import folders, policy, sockets, vm  # noqa: F401


def reap(children: set[int]) -> None:
    """Forget the children that have ended, and whatever a template has left behind."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        children.discard(pid)


def prepare(libos: str) -> Callable[[list[int]], None]:
    """Make a VM; what to call with the descriptors of its program."""
    prepared = Prepared(DEFAULT_MEMORY, libos)

    def serve_one(fds: list[int]) -> None:
        channel_fd, *streams = fds
        take_streams(streams)
        serve(Session(channel_fd), prepared)

    return serve_one


def serve(session: Session, prepared: Prepared) -> None:
    """Run what the channel asks for, on our standard streams, and report."""
    try:
        session.started()
        request = session.begin()
        try:
            perform(request, session, prepared)
        except PyrovmError as error:
            fault = failure(type(error).__name__, str(error))
        except Exception:
            # A mistake of ours.  Whoever can report it is on the other side of the channel.
            import traceback

            fault = failure("", traceback.format_exc())
        else:
            return
        session.send(fault)
    except (BrokenPipeError, ConnectionResetError, wire.BrokenRecord):
        return  # the caller has lost interest


def perform(request: wire.Fields, session: Session, prepared: Prepared) -> None:
    """Run the program to its end, and say that it has ended; or be a template of it.

    Raises:
        PyrovmError: it cannot be run.
    """
    saved = Saved(request["saved"][0]) if "saved" in request else None
    if saved:
        request = {**saved.request, **request, "ready": [AT_ONCE]}
    hostname = request["hostname"][0]
    allow, publish, volumes = (request.get(name, ()) for name in ("allow", "publish", "volume"))
    outside = Outside(allow, publish, volumes, hostname)
    program = Program(
        request["image"][0],
        request["exe"][0],
        request.get("argv", []),
        dict(split(pair) for pair in request.get("env", [])),
        memory=int(request["memory"][0]),
        cpus=int(request["cpus"][0]),
        cwd=request["cwd"][0],
        hostname=hostname,
        folders=[(share.guest, share.read_only) for share in outside.shares],
    )
    libos = request["libos"][0]
    if "ready" not in request and "live" not in request:
        run(program, libos, prepare=outside.attach, ended=session.finish, prepared=prepared)
        return
    branched: Live | Template = Live(session, outside)
    if "ready" in request:
        branched = Template(session, request, outside, saved)
    run(
        *(program, libos),
        prepare=branched.attach,
        paused=branched.paused,
        ended=session.finish,
        prepared=saved or prepared,
    )


def split(pair: str) -> tuple[str, str]:
    """``NAME=VALUE`` as two."""
    name, _, value = pair.partition("=")
    return name, value
