"""A process that ends a VMM whose page-fault handler is gone, where it cannot end itself.

The VMM's own loop sees the handler's end and stops in good order.  But a thread that waits for a
page holds on to whatever it has, the interpreter's lock with the rest, if it was Python code that
touched the page: then no Python code of that process runs ever again.  The guard is a forked child
that only waits: for the VMM's end, then it goes, too; or for the handler's, and if the VMM is still
there ``GRACE`` seconds later it says why on standard error and kills it.
"""

from __future__ import annotations

import os
import select

from pyrovm.errors import HostError
from pyrovm.host import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Protocol

    class Watch(Protocol):
        """A :class:`pyrovm.snapshot.uffd.Watch`."""

        def fileno(self) -> int: ...

        def death(self) -> str: ...


GRACE = 3.0  # seconds


def start(fds: Iterable[int], make_watch: Callable[[], Watch]) -> int:
    """Fork the guard; its process id.  ``make_watch``, called there, needs ``fds`` only.

    To be called before guest memory is in use, while this process has one thread: what the parent
    changes afterwards is copied, once, for the guard.

    Raises:
        HostError: no process can be made.
    """
    try:
        vmm = os.pidfd_open(os.getpid())
    except OSError as error:
        raise HostError.wrap("Cannot watch this process", error) from None
    try:
        pid = os.fork()
        if pid == 0:
            _run(vmm, fds, make_watch)  # does not return
    except OSError as error:
        raise HostError.wrap("Cannot start the guard of the page-fault handler", error) from None
    finally:
        os.close(vmm)
    return pid


def stop(pid: int) -> None:
    """End a guard that this process has started."""
    os.kill(pid, signals.SIGKILL)
    os.waitpid(pid, 0)


def _run(vmm: int, fds: Iterable[int], make_watch: Callable[[], Watch]) -> None:
    try:
        # The terminal's signals are for the VMM; we go when it has gone.
        signals.wake_up_fd(-1)
        for number in (signals.SIGINT, signals.SIGHUP, signals.SIGQUIT, signals.SIGTERM):
            signals.ignore(number)
        _close_all_but({2, vmm, *fds})
        reason = _wait(vmm, make_watch())
        if reason and not _ends_within(vmm, GRACE):
            os.write(2, f"pyrovm: {reason}; the VM cannot go on without it\n".encode())
            signals.kill_process(vmm, signals.SIGKILL)
    finally:
        os._exit(0)


def _wait(vmm: int, watch: Watch) -> str:
    poll = select.poll()
    poll.register(vmm, select.POLLIN)
    poll.register(watch.fileno(), select.POLLIN)
    while not any(fd == vmm for fd, _ in poll.poll()):
        reason = watch.death()
        if reason:
            return reason
    return ""


def _ends_within(process: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _close_all_but(kept: set[int]) -> None:
    start = 0
    for fd in sorted(kept - {-1}):
        os.closerange(start, fd)
        start = fd + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))
