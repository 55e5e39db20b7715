"""Where a mapping lies, without ctypes, whose import costs 3 ms and a megabyte.

CPython keeps the address in the mmap object, right behind the object's header, and the length
behind that (Modules/mmapmodule.c, the same from 3.8 to 3.14).  /proc/self/mem reads it; where the
length is not found beside it, the interpreter is built differently, and ctypes is asked after all.
"""

from __future__ import annotations

import os
from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap

_HEADER_SIZE = 16  # reference count and type
_DATA_AND_SIZE = Struct("<QQ")


def address_of_mapping(memory: mmap.mmap) -> int:
    """The host virtual address at which ``memory`` begins."""
    try:
        fd = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # no /proc in a jail
        return _by_ctypes(memory)
    try:
        found = os.pread(fd, _DATA_AND_SIZE.size, id(memory) + _HEADER_SIZE)
    except OSError:
        return _by_ctypes(memory)
    finally:
        os.close(fd)
    if len(found) == _DATA_AND_SIZE.size:
        address, size = _DATA_AND_SIZE.unpack(found)
        if size == len(memory) and address and address % 4096 == 0:
            return int(address)
    return _by_ctypes(memory)


def _by_ctypes(memory: mmap.mmap) -> int:
    from pyrovm.host.libc import address_of

    return address_of(memory)
