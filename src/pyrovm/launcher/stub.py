"""A program that has the launcher run it: outwardly the process itself, which it stands for.

It passes on everything that a new program takes over from its caller, forwards signals, and ends as
its child does.  When it is killed, so is the child.
"""

from __future__ import annotations

import fcntl
import os
import sys

from pyrovm.errors import ConfigError
from pyrovm.host import signals
from pyrovm.launcher import client, place, wire
from pyrovm.launcher.environment import reads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

STOPPING = (signals.SIGTSTP, signals.SIGTTIN, signals.SIGTTOU)
NEWS = 64  # the signal that says, with a code above 0, that launcher or child have news
EXIT_FAILED = 1


def run(
    kind: str, words: Sequence[str], variables: tuple[str, ...], *, failed: int = EXIT_FAILED
) -> int | None:
    """Have the launcher run ``kind`` with these words; its status, or None: run it yourself.

    ``variables`` of the environment go along, ``failed`` is the status where the
    launcher says no.  A child that a signal has ended ends us by the same.
    """
    try:
        switch = place.switch()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return failed
    if switch == place.OFF:
        return None
    before = signals.exchange_mask(signals.ALL)
    try:
        launched = _launch(switch, kind, words, variables, before)
        if launched is None:
            return None
        status = _attend(launched)
        signals.ignore(NEWS)  # one may be pending
        launched.close()
        if status < 0:
            _end_by(-status)
        return status
    except client.Failed as error:
        print(f"pyrovm: {error}", file=sys.stderr)
        return failed
    finally:
        signals.exchange_mask(before)


def _launch(
    switch: str, kind: str, words: Sequence[str], variables: tuple[str, ...], blocked: set[int]
) -> client.Launched | None:
    try:
        return client.Launched(
            client.reach(switch),
            kind,
            words,
            _descriptors(),
            environment={n: v for n, v in os.environ.items() if reads(variables, n)},
            blocked=[int(number) for number in blocked],
            ignored=_ignored(),
        )
    except client.Unavailable:  # everything can be done without it
        return None


def _descriptors() -> dict[int, int]:
    """Everything that we were started with.

    Raises:
        Unavailable: it is too much to pass on.
    """
    found = {}
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            if fd <= 2 or os.get_inheritable(fd):
                os.fstat(fd)
                found[fd] = fd
        except OSError:  # that of the listing; it is closed again
            continue
    if len(found) > wire.FD_MAX or max(found, default=0) >= wire.FD_NUMBER_MAX:
        raise client.Unavailable(f"{len(found)} descriptors up to number {max(found)}")
    return found


def _ignored() -> list[int]:
    return [number for number in signals.ALL if signals.is_ignored(number)]


def _attend(launched: client.Launched) -> int:
    """Pass signals on until it has ended; its status."""
    for fd in (launched.fileno(), launched.lifeline.fileno()):
        fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(fd, fcntl.F_SETSIG, NEWS)
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
    while True:
        status = launched.poll()
        if status is not None:
            return status
        number, code = signals.wait(signals.ALL)
        if number in STOPPING:
            launched.send_signal(signals.SIGSTOP)
            os.kill(os.getpid(), signals.SIGSTOP)
            launched.send_signal(signals.SIGCONT)
        elif number != signals.SIGCHLD and not (number == NEWS and code > 0):
            launched.send_signal(number)


def _end_by(number: int) -> None:
    """Be ended by a signal, and leave no second core file."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number != signals.SIGKILL:
        signals.default(number)
        signals.exchange_mask(())
    os.kill(os.getpid(), number)
