"""What the standard library does not wrap, through ctypes: imported only where it is needed."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)

_ioctl = _libc.ioctl
_ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong)

_mmap = _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_mprotect = _libc.mprotect
_mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long

MAP_FIXED = 0x10
M_ARENA_MAX = -8  # malloc.h


def _failed() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def libc_ioctl(fd: int, request: int, argument: int) -> int:
    """ioctl(2) with an unsigned long argument, interrupted by signals as the kernel means it."""
    result: int = _ioctl(fd, request, argument)
    if result == -1:
        raise _failed()
    return result


def address_of(buffer: object) -> int:
    """The host virtual address at which a writable buffer begins."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))  # type: ignore[arg-type]


def map_fixed(address: int, size: int, prot: int, flags: int, fd: int, offset: int) -> None:
    """mmap(2) over an existing mapping, at exactly ``address``."""
    if _mmap(address, size, prot, flags | MAP_FIXED, fd, offset) in (None, 2**64 - 1):
        raise _failed()


def mprotect(address: int, size: int, prot: int) -> None:
    """mprotect(2)."""
    if _mprotect(address, size, prot) != 0:
        raise _failed()


def syscall(number: int, *arguments: int) -> int:
    """syscall(2) with integer arguments.

    Raises:
        OSError: as the system call failed.
    """
    result: int = _syscall(*(ctypes.c_long(a) for a in (number, *arguments)))
    if result == -1:
        raise _failed()
    return result


def use_one_arena() -> None:
    """Have malloc(3) serve all threads from one arena: none has memory of its own then.

    Threads of ours take turns anyway.  Nothing where the C library is not glibc.
    """
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
