"""A full memory barrier for Python code.

CPython has no fence, but taking a free lock is a locked instruction on x86, which orders every
earlier store before every later load (Intel SDM vol. 3, 9.2.2).
"""

from __future__ import annotations

from _thread import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def make_barrier() -> Callable[[], None]:
    """A barrier of its own for each caller, so that none ever waits for another's."""
    lock = allocate_lock()
    acquire, release = lock.acquire, lock.release

    def full_barrier() -> None:
        acquire()
        release()

    return full_barrier
