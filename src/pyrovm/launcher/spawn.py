"""Starting the daemon for those who need it."""

from __future__ import annotations

import os
import sys

from pyrovm.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ENTRY = (
    "import sys; sys.path.insert(0, {root!r}); sys.path += {packages!r}; "
    "from pyrovm.cli.launcher import background; background()"
)
START_S = 30.0  # for an interpreter to start and load everything, on a busy machine
RESET = [n for n in range(1, 65) if n not in (9, 19, 32, 33)]  # not KILL, STOP, libc's own


def start(words: Sequence[str] = (), *, wait: bool = True) -> bool:
    """Start the daemon, if none runs; whether this one did.  It ends when it has been idle.

    ``words`` are options of ``pyrovm launcher run``; without ``wait`` it is left to itself.

    Raises:
        HostError: it does not start; with what it said.
    """
    import select

    reader, writer = os.pipe2(os.O_CLOEXEC)
    errors = os.memfd_create("launcher-stderr", os.MFD_CLOEXEC)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        given = (null, writer, errors) if wait else (null, null, null)
        moved = [_above(fd) for fd in given]
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-c", _entry(), *words],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, to) for to, fd in enumerate(moved)]
            + [(os.POSIX_SPAWN_CLOSE, fd) for fd in _inherited()],
            setsigmask=[],
            setsigdef=RESET,
        )
        for fd in moved:
            os.close(fd)
        os.close(writer)
        writer = -1
        if not wait:
            os.waitpid(pid, 0)  # it forks at once
            return True
        said = b""
        while not said.endswith(b"\n"):
            if not select.select([reader], [], [], START_S)[0]:
                raise HostError(f"The launcher has not started in {START_S:g} s")
            piece = os.read(reader, 100)
            if not piece:
                break
            said += piece
        os.waitpid(pid, 0)
        if not said:
            text = os.pread(errors, 4000, 0).decode(errors="replace").strip()
            raise HostError(f"The launcher does not start: {text or 'it says nothing'}")
        return said.startswith(b"ready")
    finally:
        for fd in (reader, writer, errors, null):
            if fd >= 0:
                os.close(fd)


def _above(fd: int) -> int:
    """A copy of it that is none of the standard streams."""
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def _inherited() -> list[int]:
    """Descriptors that a new program would get and the daemon must not hold open."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        try:
            if number > 2 and os.get_inheritable(number):
                found.append(number)
        except OSError:  # that of the listing
            continue
    return found


def _entry() -> str:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    packages = [path for path in sys.path if path.endswith("-packages")]  # for Unicorn
    return ENTRY.format(root=root, packages=packages)
