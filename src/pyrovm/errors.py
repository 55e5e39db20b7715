"""The exceptions of pyrovm.  The type says who is at fault::

    PyrovmError
    +-- ConfigError      the caller's input        (API: 400)
    +-- StateError       the wrong moment          (API: 400)
    +-- GuestError       the guest broke a rule    (contained: its device or its VM pays)
    +-- HostError        the kernel, a file, a device of the host said no
    |   +-- Unsupported  the host cannot do this at all (pyrovm doctor says more)
    +-- SnapshotError    a snapshot's file is damaged, foreign, or of another version

Our own mistakes are plain Python errors; they are not caught on the way up.
"""

from __future__ import annotations

# musl's words where they differ from glibc's: clients of Firecracker, whose releases are
# linked with musl, match on them.
_MUSL = {
    12: "Out of memory",
    16: "Resource busy",
    24: "No file descriptors available",
    25: "Not a tty",
    98: "Address in use",
}

# What fork(2) and clone(2) do not say when they answer EAGAIN.
PROCESS_LIMITS = "limited by RLIMIT_NPROC, a cgroup's pids.max, kernel.threads-max"


class PyrovmError(Exception):
    """Whatever pyrovm can explain to its caller in one sentence."""


class ConfigError(PyrovmError):
    """The caller asked for something that cannot be."""


class StateError(PyrovmError):
    """The request is right, the moment is not."""


class GuestError(PyrovmError):
    """The guest broke a rule of its contract; it is contained, never propagated to the host."""


class HostError(PyrovmError):
    """The host refused: names the call, the object and the errno (0 where there was none)."""

    def __init__(self, message: str, errno: int = 0) -> None:
        super().__init__(message)
        self.errno = errno

    @classmethod
    def wrap(cls, what: str, error: OSError) -> HostError:
        """``what: No such file or directory (os error 2)``."""
        return cls(f"{what}: {os_error(error)}", error.errno or 0)


class Unsupported(HostError):
    """The host has no way to do this; the message says what to do instead."""


class SnapshotError(PyrovmError):
    """A snapshot's file is not what it has to be: names file, place, and what is allowed."""


def os_error(error: OSError) -> str:
    """The text of an OSError in Firecracker's wording: ``Resource busy (os error 16)``."""
    number = error.errno or 0
    return f"{_MUSL.get(number) or error.strerror} (os error {number})"
