"""A program's three streams, as descriptors that do not block where that is possible."""

from __future__ import annotations

import os
import stat

from pyrovm.abi import libos as abi
from pyrovm.errors import HostError


class Stdio:
    """Standard input, output and error of a VM, and where the library OS writes its remarks.

    Pipes and terminals are opened anew so that they do not block: a guest whose output nobody
    reads must still hear of signals.  The others keep the blocking mode they have.
    """

    def __init__(self, streams: tuple[int, int, int], log_fd: int) -> None:
        """Raises HostError: a stream is closed."""
        self._given = streams
        self._log_fd = log_fd
        self._opened: list[int] = []
        self.fds: tuple[int, int, int, int] = (-1, -1, -1, -1)
        try:
            self.open()
        except BaseException:
            self.close()
            raise

    def open(self) -> None:
        """Open them, or what the same descriptors stand for now.

        Raises:
            HostError: a stream is closed.
        """
        self.close()
        first, second, third = (self._open(n, fd) for n, fd in enumerate(self._given))
        self.fds = first, second, third, self._log_fd

    def _open(self, number: int, fd: int) -> int:
        try:
            mode = os.fstat(fd).st_mode
        except OSError as error:
            raise HostError.wrap(f"Standard stream {number} is closed", error) from None
        if stat.S_ISFIFO(mode) or os.isatty(fd):
            access = os.O_WRONLY if number else os.O_RDONLY
            flags = access | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
            try:
                own = os.open(f"/proc/self/fd/{fd}", flags)
            except OSError:  # no /proc, or not ours to open: it may block, and that is all
                return fd
            self._opened.append(own)
            return own
        return fd

    def terminal_flags(self) -> int:
        """PV_FLAG_TTY_* of those that are terminals."""
        flags = (abi.PV_FLAG_TTY_IN, abi.PV_FLAG_TTY_OUT, abi.PV_FLAG_TTY_ERR)
        return sum(flag for fd, flag in zip(self._given, flags, strict=True) if os.isatty(fd))

    def close(self) -> None:
        """Close what was opened; whoever reads it finds its end."""
        while self._opened:
            os.close(self._opened.pop())
