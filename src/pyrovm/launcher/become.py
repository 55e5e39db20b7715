"""What a child of the launcher takes over from its caller, to be what a new program would be."""

from __future__ import annotations

import fcntl
import os
import sys

from pyrovm.host import signals
from pyrovm.launcher import wire
from pyrovm.launcher.environment import reads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.launcher.child import Entry
    from pyrovm.launcher.record import Fields


class CannotBecome(Exception):
    """The child cannot be made what its caller is; says why."""


def become(job: Fields, fds: list[int], entry: Entry) -> None:
    """Take over what the caller is; ``fds`` are its folder and its descriptors.

    Raises:
        OSError, CannotBecome, ValueError: something cannot be taken over.
    """
    _take_descriptors(_numbers(job), fds)
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


def put_above(fd: int, job: Fields) -> int:
    """The same descriptor where none of the caller's will be; ``fd`` is closed if it moves.

    It stays where there is no such place, of which :func:`become` will speak.
    """
    try:
        return _move(fd, max([2, *_numbers(job)]) + 1)
    except (OSError, CannotBecome, ValueError):
        return fd


def _move(fd: int, free: int) -> int:
    if fd >= free:
        return fd
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, free)
    os.close(fd)
    return moved


def _numbers(job: Fields) -> list[int]:
    """Which the caller's descriptors are."""
    numbers = [int(text) for text in job.get("fd", ())]
    if any(not 0 <= number < wire.FD_NUMBER_MAX for number in numbers):
        raise CannotBecome(f"descriptors up to {wire.FD_NUMBER_MAX - 1} can be taken over")
    return numbers


def _take_descriptors(numbers: list[int], fds: list[int]) -> None:
    """Standard streams and whatever else the caller has open for its children, in their places."""
    folder, *given = fds
    if len(numbers) != len(given):
        raise CannotBecome(f"{len(numbers)} descriptors are named, {len(given)} came")
    os.fchdir(folder)
    os.close(folder)
    free = max([2, *numbers]) + 1
    moved = [_move(fd, free) for fd in given]
    for number, fd in zip(numbers, moved, strict=True):
        os.dup2(fd, number, inheritable=True)
        os.close(fd)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if number not in numbers:  # closed, as they are for the caller
            os.close(number)
            setattr(sys, name, None)
    if sys.stdout is not None and os.isatty(1):
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


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
