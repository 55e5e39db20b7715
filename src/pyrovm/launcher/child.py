"""A child of the launcher: it waits for its job, becomes what the job says, and runs it.

Everything that the launcher had open is closed first, but not by the objects that own it: the
launcher's stack stays below ours, untouched, until ``os._exit``.
"""

from __future__ import annotations

import _socket
import fcntl
import os
import sys
from _thread import allocate_lock, start_new_thread

from pyrovm.errors import os_error
from pyrovm.host import signals
from pyrovm.launcher import passing, wire
from pyrovm.launcher.environment import reads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

    from pyrovm.launcher.record import Fields

OPEN_MAX = 1 << 20
EXIT_NO_JOB = 0
EXIT_SOFTWARE = 70


class Entry:
    """One kind of job.

    ``main(words)`` returns the exit status, as the program of that name does; ``environment`` are
    the variables that it reads, as in :mod:`pyrovm.launcher.environment`.
    """

    def __init__(
        self,
        main: Callable[[list[str]], int],
        environment: tuple[str, ...],
    ) -> None:
        self.main = main
        self.environment = environment
        self.inherited = [name for name in os.environ if reads(environment, name)]


class CannotBecome(Exception):
    """The child cannot be made what its caller is; says why."""


def live(
    channel: int, entries: Mapping[str, Entry], prepare: Callable[[], object] | None
) -> NoReturn:
    """In the fork: wait for a job on ``channel`` (a descriptor) and do it."""
    status = EXIT_SOFTWARE
    try:
        status = _live(channel, entries, prepare)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except KeyboardInterrupt:  # as the interpreter itself ends by it
        _flush()
        signals.default(signals.SIGINT)
        os.kill(os.getpid(), signals.SIGINT)
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    finally:
        _flush()
        os._exit(status & 0xFF)


def _live(
    channel_fd: int, entries: Mapping[str, Entry], prepare: Callable[[], object] | None
) -> int:
    os.closerange(3, channel_fd)
    os.closerange(channel_fd + 1, OPEN_MAX)
    os.setsid()
    signals.wake_up_fd(-1)
    for number in (signals.SIGCHLD, signals.SIGTERM, signals.SIGHUP):
        signals.default(number)
    signals.exchange_mask(())
    channel = _socket.socket(fileno=channel_fd)
    if prepare is not None:
        prepare()
        _rehearse()
    try:
        data, fds = passing.receive(channel, wire.MESSAGE_MAX, wire.JOB_FDS)
    except (ConnectionError, passing.TooMany):
        return EXIT_NO_JOB
    if not data:  # the launcher is gone, or wants no pool any more
        return EXIT_NO_JOB
    channel.close()
    job = wire.decode(data)
    lifeline = _socket.socket(fileno=fds[0])
    entry = entries[job["kind"][0]]
    try:
        lifeline = _become(job, fds, entry, lifeline)
        lifeline.send(wire.encode([("running", "")]))
    except (BrokenPipeError, ConnectionResetError):
        return EXIT_NO_JOB  # nobody wants it any more
    except (CannotBecome, OSError, ValueError) as error:
        reason = os_error(error) if isinstance(error, OSError) else str(error)
        lifeline.send(wire.encode([("refused", f"the child cannot be as its caller: {reason}")]))
        return EXIT_NO_JOB
    status = entry.main(job.get("word", []))
    _flush()
    try:
        lifeline.send(wire.encode([("left", str(status & 0xFF))]), _socket.MSG_DONTWAIT)
    except OSError:  # nobody asks
        pass
    return status


def _rehearse() -> None:
    """A message to ourselves, a variable, a thread: what a job writes to (mostly reference counts)
    is copied now, and the thread's stack is there for the next one."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    message = wire.encode([("kind", "rehearsal"), ("word", ""), ("fd", "0"), ("umask", "0")])
    passing.send(ours, message, [ours.fileno(), theirs.fileno()])
    data, fds = passing.receive(theirs, wire.MESSAGE_MAX, wire.JOB_FDS)
    wire.decode(data)
    for fd in fds:
        os.close(fd)
    _die_with(theirs)
    fcntl.fcntl(theirs, fcntl.F_SETFL, fcntl.fcntl(theirs, fcntl.F_GETFL) & ~os.O_ASYNC)
    ours.close()
    theirs.close()
    os.environ["PYROVM_REHEARSAL"] = ""
    del os.environ["PYROVM_REHEARSAL"]
    running = allocate_lock()
    running.acquire()
    start_new_thread(running.release, ())
    running.acquire()


def _become(job: Fields, fds: list[int], entry: Entry, lifeline: _socket.socket) -> _socket.socket:
    """Take over what the caller is; the lifeline, which may have moved.

    Raises:
        OSError, CannotBecome, ValueError: something cannot be taken over.
    """
    lifeline = _take_descriptors(job, fds, lifeline)
    os.umask(int(job["umask"][0]))
    _take_environment(job, entry)
    for text in job.get("limit", ()):
        import resource

        number, soft, hard = map(int, text.split())
        resource.setrlimit(number, (soft, hard))
    if "cpu" in job:
        os.sched_setaffinity(0, map(int, job["cpu"]))
    if "nice" in job:
        os.setpriority(os.PRIO_PROCESS, 0, int(job["nice"][0]))
    if "oom" in job:
        with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
            file.write(job["oom"][0].encode())
    _take_signals(job)
    _die_with(lifeline)
    return lifeline


def _take_descriptors(job: Fields, fds: list[int], lifeline: _socket.socket) -> _socket.socket:
    """Standard streams and whatever else the caller has open for its children, in their places."""
    numbers = [int(text) for text in job.get("fd", ())]
    if len(numbers) != len(fds) - wire.FIXED:
        raise CannotBecome(f"{len(numbers)} descriptors are named, {len(fds) - wire.FIXED} came")
    if any(not 0 <= number < wire.FD_NUMBER_MAX for number in numbers):
        raise CannotBecome(f"descriptors up to {wire.FD_NUMBER_MAX - 1} can be taken over")
    os.fchdir(fds[1])
    os.close(fds[1])
    free = max([2, *numbers]) + 1
    moved = []
    for fd in (lifeline.detach(), *fds[wire.FIXED :]):
        moved.append(fd if fd >= free else fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, free))
        if fd < free:
            os.close(fd)
    for number, fd in zip(numbers, moved[1:], strict=True):
        os.dup2(fd, number, inheritable=True)
        os.close(fd)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if number not in numbers:  # closed, as they are for the caller
            os.close(number)
            setattr(sys, name, None)
    if sys.stdout is not None and os.isatty(1):
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return _socket.socket(fileno=moved[0])


def _take_environment(job: Fields, entry: Entry) -> None:
    """Those variables that the entry reads; ours of these names are gone."""
    wanted = dict(_pair(text) for text in job.get("env", ()))
    own = os.environ
    retime = own.get("TZ") != wanted.get("TZ")
    for name in entry.inherited:
        if name not in wanted:
            del own[name]
    for name, value in wanted.items():
        if reads(entry.environment, name) and own.get(name) != value:
            own[name] = value
    if retime and reads(entry.environment, "TZ"):
        from time import tzset

        tzset()


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _take_signals(job: Fields) -> None:
    """What is ignored and what is blocked; a new program starts with the rest at their defaults."""
    ignored = {int(text) for text in job.get("ignored", ())} - {signals.SIGKILL, signals.SIGSTOP}
    for number in ignored:
        if not signals.is_ignored(number):
            signals.ignore(number)
    if signals.SIGINT not in ignored:
        signals.interrupt_as_python(signals.SIGINT)
    if "blocked" in job:
        signals.exchange_mask([int(text) for text in job["blocked"]])


def _die_with(lifeline: _socket.socket) -> None:
    """Have SIGKILL sent to us when the other end is closed: at once, wherever we are.

    Raises:
        BrokenPipeError: it is closed already.
    """
    fd = lifeline.fileno()
    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(fd, fcntl.F_SETSIG, signals.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
    try:
        gone = lifeline.recv(1, _socket.MSG_DONTWAIT | _socket.MSG_PEEK) == b""
    except BlockingIOError:
        gone = False
    if gone:  # before we asked for the signal
        raise BrokenPipeError


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except OSError:  # nobody reads it; the status says what counts
                pass
