"""The one gate to ioctl(2).

``fcntl.ioctl`` serves everything but two cases: an integer argument past 31 bits, which it
refuses up to Python 3.13, and KVM_RUN from Python 3.14 on, where it would repeat a call that a
signal interrupted, so that a kicked vCPU could never be stopped.  Those go through libc.
"""

from __future__ import annotations

import fcntl
import sys

from pyrovm.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.abi.layout import Struct

_RETRIES_ON_SIGNAL = sys.version_info >= (3, 14)


def ioctl(fd: int, request: int, argument: int = 0, *, what: str) -> int:
    """An ioctl with an integer (or no) argument; its result.

    Raises:
        HostError: the kernel refused; the message starts with ``what``.
    """
    try:
        if argument > 0x7FFF_FFFF:
            from pyrovm.host.libc import libc_ioctl

            return libc_ioctl(fd, request, argument)
        return fcntl.ioctl(fd, request, argument)
    except OSError as error:
        raise HostError.wrap(what, error) from None


def ioctl_buffer(fd: int, request: int, buffer: bytearray | memoryview, *, what: str) -> int:
    """An ioctl that reads and writes ``buffer`` in place; its result.

    Raises:
        HostError: the kernel refused; the message starts with ``what``.
    """
    try:
        result: int = fcntl.ioctl(fd, request, buffer, True)
        return result
    except OSError as error:
        raise HostError.wrap(what, error) from None


def ioctl_struct(fd: int, request: int, structure: Struct, *, what: str) -> int:
    """An ioctl that reads and writes a generated structure in place; its result.

    Raises:
        HostError: the kernel refused; the message starts with ``what``.
    """
    return ioctl_buffer(fd, request, structure.view, what=what)


def runner(fd: int, request: int) -> Callable[[], int]:
    """A callable that makes one argument-less ioctl and lets a signal interrupt it.

    It raises InterruptedError for a signal and OSError for all else: no wrapping, it is hot.
    """
    if _RETRIES_ON_SIGNAL:
        from pyrovm.host.libc import libc_ioctl

        return lambda: libc_ioctl(fd, request, 0)
    call = fcntl.ioctl
    return lambda: call(fd, request)
