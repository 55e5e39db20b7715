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
from pyrovm.launcher.become import CannotBecome, become, put_above
from pyrovm.launcher.environment import reads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn


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
    entry = entries[job["kind"][0]]
    lifeline = _socket.socket(fileno=put_above(fds[0], job))
    try:
        become(job, fds[1:], entry)
        _die_with(lifeline)
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
