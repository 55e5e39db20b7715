"""eventfds: how the kernel tells us of doorbells, and how we raise interrupts."""

from __future__ import annotations

import os

_ONE = (1).to_bytes(8, "little")


class EventFd:
    """A non-blocking eventfd (eventfd(2)) that closes with its owner."""

    __slots__ = ("fd",)

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        return self.fd

    def signal(self) -> None:
        """Add one to the counter; a full counter already wakes its reader."""
        try:
            os.write(self.fd, _ONE)
        except BlockingIOError:
            pass

    def drain(self) -> int:
        """Read the counter down to zero; what it was."""
        try:
            return int.from_bytes(os.read(self.fd, 8), "little")
        except BlockingIOError:
            return 0

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
