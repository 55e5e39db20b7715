"""The serial console of a Firecracker-like process: standard streams, or a file."""

from __future__ import annotations

import os

from pyrovm.devices.rate_limiter import make_bucket
from pyrovm.errors import HostError
from pyrovm.machine.blueprint import SerialPlan
from pyrovm.machine.console import RawTerminal
from pyrovm.machine.log import open_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.config.serial import SerialConfig

STDIN, STDOUT = 0, 1


class Console:
    """Plans the console of each try to start; owns the mode of the terminal."""

    def __init__(self) -> None:
        self._terminal = RawTerminal(STDIN)
        self._uses_stdin = False

    def plan(self, config: SerialConfig | None) -> SerialPlan:
        """Where the bytes go: to a file without any input, else between the standard streams.

        Raises:
            HostError: the file cannot be opened.
        """
        bucket = None
        if config is not None and config.rate_limiter is not None:
            limit = config.rate_limiter
            bucket = make_bucket(limit.size, limit.refill_time, limit.one_time_burst or 0)
        path = None if config is None else config.serial_out_path
        self._uses_stdin = path is None
        if path is not None:
            try:
                fd = open_output(path)
            except OSError as error:
                raise HostError.wrap(f"Cannot open the serial output {path}", error) from None
            return SerialPlan(fd, output_owned=True, bucket=bucket)
        try:
            os.set_blocking(STDOUT, False)
        except OSError:  # it is closed: the bytes are lost, which the guest need not know
            pass
        return SerialPlan(STDOUT, input_fd=STDIN if _is_open(STDIN) else None, bucket=bucket)

    def enter(self) -> None:
        """The machine runs: keys go to the guest as they are pressed."""
        if self._uses_stdin and _is_open(STDIN) and os.isatty(STDIN):
            self._terminal.enter()
            self._terminal.restore_on_signals()

    def leave(self) -> None:
        """Give the terminal back as it was."""
        self._terminal.restore()


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
