"""What a VMM does about signals: most end it with a code of their own, after a last metrics line.

The signals are blocked in every thread and one thread waits for them: it also works while the main
thread is in a long call, and it learns where a signal came from (``si_code``).  A fault of our own
that raises one of them synchronously still kills the process at once, as it should.

SIGXFSZ is different: the kernel sends it to the very thread that made a file too large, where
nobody would wait for it.  It has a handler, which runs in the main thread.
"""

from __future__ import annotations

import os
from _thread import start_new_thread

from pyrovm.errors import PROCESS_LIMITS, HostError
from pyrovm.host import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.machine.log import Log
    from pyrovm.machine.metrics import Metrics

# Signal: (exit code, field of the metrics).
FATAL = {
    signals.SIGSYS: (148, "num_faults"),
    signals.SIGBUS: (149, "sigbus"),
    signals.SIGSEGV: (150, "sigsegv"),
    signals.SIGXFSZ: (151, "sigxfsz"),
    signals.SIGXCPU: (154, "sigxcpu"),
    signals.SIGHUP: (156, "sighup"),
    signals.SIGILL: (157, "sigill"),
}
WAITED_FOR = (*(FATAL.keys() - {signals.SIGXFSZ}), signals.SIGPIPE)
SI_USER = 0


def watch_signals(log: Log, metrics: Callable[[], Metrics]) -> None:
    """Handle signals from now on; call this before any other thread is started.

    Raises:
        HostError: there can be no more threads.
    """
    signals.default(signals.SIGINT)
    signals.block(WAITED_FOR)
    signals.handle(signals.SIGXFSZ, lambda *_: _file_too_large(log, metrics()))
    try:
        start_new_thread(_wait_for_signals, (log, metrics))
    except RuntimeError:  # which says no more than that
        raise HostError(f"No thread can start ({PROCESS_LIMITS}, RLIMIT_AS)") from None


def _wait_for_signals(log: Log, metrics: Callable[[], Metrics]) -> None:
    while True:
        number, code = signals.wait(WAITED_FOR)
        if number == signals.SIGPIPE:
            metrics().add("signals", "sigpipe")
            log.error(f"Received signal {number}, code {code}.")
            continue
        end_by_signal(number, code, log, metrics())


def _file_too_large(log: Log, metrics: Metrics) -> None:
    signals.ignore(signals.SIGXFSZ)  # the log may be what is too large
    end_by_signal(signals.SIGXFSZ, SI_USER, log, metrics)


def end_by_signal(number: int, code: int, log: Log, metrics: Metrics) -> None:
    """End the process because of a fatal signal; does not return."""
    exit_code, field = FATAL[number]
    log.error(f"Shutting down VM after intercepting signal {number}, code {code}.")
    if number == signals.SIGSYS:
        log.error("Shutting down VM after intercepting a bad syscall.")
        metrics.store("seccomp", field, 1)
    else:
        metrics.store("signals", field, 1)
    metrics.write()
    log.error(f"Firecracker exiting with error. exit_code={exit_code}")
    os._exit(exit_code)
