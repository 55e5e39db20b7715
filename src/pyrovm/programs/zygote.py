"""The helper: a process with the engine loaded, which forks one process for each VM.

A forked VM need not start an interpreter nor import anything, and shares that memory with all
others.  The helper has no threads and few modules, so a fork of it is cheap and safe.

It ends when its caller does, or closes the control socket; then it kills its VMs.  The caller's
pidfd says so, not PR_SET_PDEATHSIG: that signal comes when the *thread* that started us ends.
"""

from __future__ import annotations

import _socket
import fcntl
import gc
import os
import select

from pyrovm.errors import PyrovmError
from pyrovm.host import signals
from pyrovm.programs import wire
from pyrovm.unikernel.outside import Outside
from pyrovm.unikernel.program import Program
from pyrovm.unikernel.run import Outcome, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CONTROL, CALLER = 3, 4  # descriptors: the control socket, the pidfd of the caller
OPEN_MAX = 1 << 20
EX_SOFTWARE = 70
INT_SIZE = 4
ANCILLARY_SIZE = _socket.CMSG_SPACE(INT_SIZE * wire.DESCRIPTORS)


def main() -> None:
    """Serve until the caller is gone."""
    os.closerange(CALLER + 1, OPEN_MAX)  # whatever the caller has left inheritable
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
    while True:
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
                pid = fork(fds, (CONTROL, CALLER, wake_in, wake_out))
                if pid:
                    children.add(pid)
            for fd in fds:
                os.close(fd)
    for pid in children:  # ours, and not waited for yet: the number is theirs
        os.kill(pid, signals.SIGKILL)
    os._exit(0)


def load() -> None:
    """Import what VMs need, once for all of them; they would do it later, each for itself."""
    from pyrovm.kvm import system  # noqa: F401
    from pyrovm.unikernel import folders, policy, sockets, vm  # noqa: F401


def reap(children: set[int]) -> None:
    """Forget the children that have ended."""
    while children:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        children.discard(pid)


def receive_descriptors(control: _socket.socket) -> list[int] | None:
    """Those of the next message; None where nobody can send one any more."""
    try:
        data, ancillary, _, _ = control.recvmsg(
            len(wire.PASS), ANCILLARY_SIZE, _socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionResetError:
        return None
    if not data:
        return None
    fds: list[int] = []
    for level, kind, raw in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            fds += memoryview(raw)[: len(raw) // INT_SIZE * INT_SIZE].cast("i")
    return fds


def fork(fds: list[int], ours: tuple[int, ...]) -> int:
    """Start the process of one VM; its number, or 0 where there can be no more."""
    channel_fd, *streams = fds
    try:
        pid = os.fork()
    except OSError as error:
        message = f"the process of a VM cannot be forked: {error.strerror}"
        os.write(channel_fd, wire.STARTED + wire.encode(failure("HostError", message)))
        return 0
    if pid:
        return pid
    status = EX_SOFTWARE
    try:
        signals.wake_up_fd(-1)
        signals.default(signals.SIGCHLD)
        for fd in ours:
            os.close(fd)
        for number, fd in enumerate(streams):
            os.dup2(fd, number, inheritable=False)
            os.close(fd)
        serve(_socket.socket(fileno=channel_fd))
        status = 0
    finally:
        os._exit(status)


def serve(channel: _socket.socket) -> None:
    """Run what the channel asks for, on our standard streams, and report."""
    channel.setblocking(True)
    try:
        channel.sendall(wire.STARTED)
        request = wire.receive(channel.recv)
        die_with(channel)
        try:
            perform(request, lambda outcome: finish(channel, outcome))
        except PyrovmError as error:
            fault = failure(type(error).__name__, str(error))
        except Exception:
            # A mistake of ours.  Whoever can report it is on the other side of the channel.
            import traceback

            fault = failure("", traceback.format_exc())
        else:
            return
        channel.sendall(wire.encode(fault))
    except (BrokenPipeError, ConnectionResetError, wire.BrokenRecord):
        return  # the caller has lost interest


def die_with(channel: _socket.socket) -> None:
    """Have SIGIO, whose default is to kill, sent to us when the other end is closed: at once,
    wherever we are, in KVM_RUN for ever or in a write that nobody reads."""
    fd = channel.fileno()
    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
    try:
        gone = channel.recv(1, _socket.MSG_DONTWAIT | _socket.MSG_PEEK) == b""
    except BlockingIOError:
        gone = False
    if gone:  # before we asked for the signal
        raise wire.BrokenRecord("the caller is gone")


def perform(request: wire.Fields, ended: Callable[[Outcome], None]) -> None:
    """Run the program to its end, and say that it has ended.

    Raises:
        PyrovmError: it cannot be run.
    """
    hostname = request["hostname"][0]
    allow, publish, volumes = (request.get(name, ()) for name in ("allow", "publish", "volume"))
    outside = Outside(allow, publish, volumes, hostname)
    program = Program(
        request["image"][0],
        request["exe"][0],
        request.get("argv", []),
        dict(split(pair) for pair in request.get("env", [])),
        memory=int(request["memory"][0]),
        cwd=request["cwd"][0],
        hostname=hostname,
        folders=[(share.guest, share.read_only) for share in outside.shares],
    )
    run(program, request["libos"][0], prepare=outside.attach, ended=ended)


def finish(channel: _socket.socket, outcome: Outcome) -> None:
    """Report, and leave the rest to the kernel."""
    os.closerange(0, 3)
    channel.sendall(wire.encode(describe(outcome)))
    os._exit(0)


def split(pair: str) -> tuple[str, str]:
    """``NAME=VALUE`` as two."""
    name, _, value = pair.partition("=")
    return name, value


def describe(outcome: Outcome) -> list[tuple[str, str]]:
    """The report about a program that has ended."""
    return [
        ("status", str(outcome.status)),
        ("signal", str(outcome.signal)),
        ("exits", str(outcome.exits)),
        ("build_ns", str(outcome.built_ns - outcome.started_ns)),
        ("run_ns", str(outcome.ended_ns - outcome.built_ns)),
        ("panic", outcome.panic.replace("\0", "?")),
    ]


def failure(kind: str, message: str) -> list[tuple[str, str]]:
    """The report about one that could not be run: an exception's name ("": our own) and text."""
    return [("error", kind), ("message", message.replace("\0", "?"))]
