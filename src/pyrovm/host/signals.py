"""Signals without the ``signal`` module, whose enumerations cost 3 ms of start-up.

``_signal`` is the C half that ``signal`` wraps: the same functions on plain numbers.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# x86-64 Linux's numbers (signal(7)).
SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGBUS, SIGSEGV, SIGALRM = 1, 2, 3, 4, 7, 11, 14
SIGKILL, SIGPIPE, SIGTERM, SIGCHLD = 9, 13, 15, 17
SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGIO = 18, 19, 20, 21, 22, 29
SIGXCPU, SIGXFSZ, SIGWINCH, SIGSYS = 24, 25, 28, 31
SIGRTMIN: int = _signal.SIGRTMIN
ALL = (*range(1, 32), *range(SIGRTMIN, 65))  # between them are libc's own


def handle(number: int, handler: Callable[[int, object], object]) -> None:
    """Have ``handler(number, frame)`` called in the main thread; call this from there too."""
    _signal.signal(number, handler)


def default(number: int) -> None:
    """Restore the kernel's own action."""
    _signal.signal(number, _signal.SIG_DFL)


def ignore(number: int) -> None:
    """Do nothing about a signal."""
    _signal.signal(number, _signal.SIG_IGN)


def wake_up_fd(fd: int) -> None:
    """Have every signal write its number as one byte to ``fd`` (non-blocking); -1 stops it."""
    _signal.set_wakeup_fd(fd, warn_on_full_buffer=False)


def kill_thread(ident: int, number: int) -> None:
    """pthread_kill(3); the caller knows that the thread is alive."""
    _signal.pthread_kill(ident, number)


def block(numbers: Iterable[int]) -> None:
    """Keep these signals pending in this thread and all it starts, for :func:`wait`."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, numbers)


def exchange_mask(numbers: Iterable[int]) -> set[int]:
    """Block exactly these signals in this thread; those that were blocked before."""
    before: set[int] = _signal.pthread_sigmask(_signal.SIG_SETMASK, numbers)
    return before


def unblock(numbers: Iterable[int]) -> None:
    """Have these signals delivered to this thread again."""
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, numbers)


def wait(numbers: Iterable[int]) -> tuple[int, int]:
    """Sleep until one of the blocked ``numbers`` is pending; it, and its ``si_code``."""
    info = _signal.sigwaitinfo(numbers)
    return info.si_signo, info.si_code


def kill_process(pidfd: int, number: int) -> None:
    """pidfd_send_signal(2)."""
    _signal.pidfd_send_signal(pidfd, number)


def handler_of(number: int) -> object:
    """What is done about a signal now, for :func:`restore`."""
    return _signal.getsignal(number)


def is_ignored(number: int) -> bool:
    """Whether a signal is ignored, as ``nohup`` does with SIGHUP."""
    ignored: bool = _signal.getsignal(number) == _signal.SIG_IGN
    return ignored


def restore(number: int, handler: object) -> None:
    """Do about a signal what :func:`handler_of` has said."""
    _signal.signal(number, _signal.SIG_DFL if handler is None else handler)


def interrupt_as_python(number: int) -> None:
    """Raise KeyboardInterrupt in the main thread, as Python does about SIGINT."""
    _signal.signal(number, _signal.default_int_handler)


def send_by_pidfd(pidfd: int, number: int) -> None:
    """Send a signal to the process behind a pidfd.

    Raises:
        ProcessLookupError: it has ended.
    """
    _signal.pidfd_send_signal(pidfd, number)


def set_timer(seconds: float, interval: float = 0.0) -> None:
    """SIGALRM in ``seconds`` (0: never), and then every ``interval`` (setitimer(2))."""
    _signal.setitimer(_signal.ITIMER_REAL, seconds, interval)
