"""The hypercalls, as the VMM serves them: every argument is untrusted (libos/abi.h)."""

from __future__ import annotations

import os
from errno import EBADF, EFAULT, EINVAL, EIO, ENOSYS
from struct import Struct

from pyrovm.abi import libos as abi
from pyrovm.errors import GuestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.memory.guest_memory import GuestMemory
    from pyrovm.unikernel.terminal import Terminal
    from pyrovm.unikernel.waiting import Waiting

    Handler = Callable[[int, int, int, int, int, int], int]

_IOVEC = Struct("<QQ")
_EVENT = Struct("<II")
NO_OFFSET = (1 << 64) - 1
PANIC_MAX = 4096  # bytes of last words
TIMED_OUT = 124  # the status after a timeout, as timeout(1) has it


class Ended(Exception):
    """The guest has asked to end: PV_EXIT's status, or PV_PANIC's text."""

    def __init__(self, status: int, panic: str = "") -> None:
        super().__init__(status, panic)
        self.status = status
        self.panic = panic


class Calls:
    """Serves one VM's calls; ``handlers[n]`` takes the six arguments and returns the result.

    ``streams`` are the descriptors behind the handles 0 to 3; ``discard(gpa, size)`` gives RAM back
    to the host.  Other modules add handles (:meth:`add_handle`) and handlers of their own.
    """

    def __init__(
        self,
        memory: GuestMemory,
        ram_size: int,
        waiting: Waiting,
        discard: Callable[[int, int], None],
        streams: tuple[int, int, int, int],
    ) -> None:
        self.memory = memory
        self.waiting = waiting
        self._ram_size = ram_size
        self._discard_ram = discard
        self._fds = dict(enumerate(streams))
        self._closers: dict[int, Callable[[], None]] = {}
        self._free: list[int] = []
        for handle, fd in self._fds.items():
            waiting.add(handle, fd)
        self.handlers: list[Handler] = [_absent] * abi.PV_CALLS
        self.handlers[abi.PV_EXIT] = self._exit
        self.handlers[abi.PV_READ] = self._read
        self.handlers[abi.PV_WRITE] = self._write
        self.handlers[abi.PV_WAIT] = self._wait
        self.handlers[abi.PV_DISCARD] = self._discard
        self.handlers[abi.PV_CLOSE] = self._close
        self.handlers[abi.PV_INTERRUPT] = self._interrupt
        self.handlers[abi.PV_PANIC] = self._panic
        self.handlers[abi.PV_READY] = _nobody_waits
        self.handlers[abi.PV_TERMINAL] = self._first_terminal
        self._terminal: Terminal | None = None

    def close(self) -> None:
        """Close every handle that the guest has left open; the terminal is as it was."""
        if self._terminal:
            self._terminal.restore()
        for handle in list(self._closers):
            self.remove_handle(handle)

    # --------------------------------------------------------------------------------- handles

    def add_handle(self, fd: int, close: Callable[[], None], *, plain: bool = True) -> int:
        """A number for ``fd``; ``close`` is called when the guest closes it.  What is not ``plain``
        cannot be used with PV_READ and PV_WRITE.

        Raises:
            GuestError: the guest has too many open.
        """
        if self._free:
            handle = self._free.pop()
        else:
            handle = len(self._fds)
            if handle >= abi.PV_HANDLE_MAX:
                raise GuestError(f"more than {abi.PV_HANDLE_MAX} handles are open")
        self._fds[handle] = fd if plain else -1
        self._closers[handle] = close
        self.waiting.add(handle, fd)
        return handle

    def restore_handle(
        self, handle: int, fd: int, close: Callable[[], None], *, plain: bool = True
    ) -> None:
        """:meth:`add_handle` of a guest that was saved: the number is the guest's."""
        for number in range(len(self._fds), handle):
            self._fds[number] = -1
            self._free.append(number)
        if handle in self._free:
            self._free.remove(handle)
        self._fds[handle] = fd if plain else -1
        self._closers[handle] = close
        self.waiting.add(handle, fd)

    def remove_handle(self, handle: int) -> None:
        """Forget a handle and close what is behind it."""
        self.waiting.remove(handle)
        self._fds[handle] = -1
        self._free.append(handle)
        self._closers.pop(handle)()

    def set_streams(self, streams: tuple[int, int, int, int]) -> None:
        """In a branch, whose ``waiting`` is its own: what is behind the handles 0 to 3."""
        self._fds.update(enumerate(streams))
        self.waiting.replace(dict(enumerate(streams)))

    def fd_of(self, handle: int) -> int:
        """The descriptor behind a handle, or -1."""
        return self._fds.get(handle, -1)

    # ---------------------------------------------------------------------------------- memory

    def pieces(self, gpa: int, count: int, *, write: bool) -> list[memoryview]:
        """The live bytes that ``count`` iovecs at ``gpa`` point to; to write to only in RAM.

        Raises:
            GuestError: too many, too long, or not memory.
        """
        if count > abi.PV_IOV_MAX:
            raise GuestError(f"{count} pieces; {abi.PV_IOV_MAX} are allowed")
        views, total = [], 0
        for at, length in _IOVEC.iter_unpack(self.memory.read(gpa, count * _IOVEC.size)):
            total += length
            if total > abi.PV_IO_MAX:
                raise GuestError(f"{total} bytes; {abi.PV_IO_MAX} are allowed")
            views.append(self.writable(at, length) if write else self.memory.slice(at, length))
        return views

    def writable(self, gpa: int, length: int) -> memoryview:
        """Live bytes of RAM.

        Raises:
            GuestError: they are not in RAM.
        """
        if gpa + length > self._ram_size:
            raise GuestError(f"{gpa:#x} + {length:#x} is not in RAM")
        return self.memory.writable(gpa, length)

    # ----------------------------------------------------------------------------------- calls

    def _exit(self, status: int, *_: int) -> int:
        raise Ended(status & 0x1FF)

    def _panic(self, gpa: int, length: int, *_: int) -> int:
        try:
            text = self.memory.read(gpa, min(length, PANIC_MAX)).decode("utf-8", "replace")
        except GuestError as error:
            text = f"(its words are lost: {error})"
        raise Ended(255, text)

    def _read(self, handle: int, gpa: int, count: int, offset: int, *_: int) -> int:
        return self._move(os.readv, os.preadv, handle, gpa, count, offset, to_guest=True)

    def _write(self, handle: int, gpa: int, count: int, offset: int, *_: int) -> int:
        return self._move(os.writev, os.pwritev, handle, gpa, count, offset, to_guest=False)

    def _move(
        self,
        move: Callable[[int, list[memoryview]], int],
        move_at: Callable[[int, list[memoryview], int], int],
        handle: int,
        gpa: int,
        count: int,
        offset: int,
        *,
        to_guest: bool,
    ) -> int:
        fd = self.fd_of(handle)
        if fd < 0:
            return -EBADF
        try:
            views = self.pieces(gpa, count, write=to_guest)
            return move(fd, views) if offset == NO_OFFSET else move_at(fd, views, offset)
        except GuestError:
            return -EFAULT
        except OverflowError:
            return -EINVAL
        except OSError as error:
            return -(error.errno or EIO)

    def _wait(
        self, timeout: int, arms: int, arm_count: int, events: int, most: int, _f: int
    ) -> int:
        if arm_count > abi.PV_ARMS_MAX or not 0 < most <= abi.PV_EVENTS_MAX:
            return -EINVAL
        try:
            wanted = self.read_events(arms, arm_count)
            return self.write_events(events, self.waiting.wait(timeout, wanted, most))
        except GuestError:
            return -EFAULT

    def read_events(self, gpa: int, count: int) -> list[tuple[int, int]]:
        """(handle, events) of an array of struct pv_event.

        Raises:
            GuestError: it is not in memory.
        """
        return list(_EVENT.iter_unpack(self.memory.read(gpa, count * _EVENT.size)))

    def write_events(self, gpa: int, found: list[tuple[int, int]]) -> int:
        """Write such an array; its length.

        Raises:
            GuestError: it is not in RAM.
        """
        room = self.writable(gpa, len(found) * _EVENT.size)
        for index, event in enumerate(found):
            _EVENT.pack_into(room, index * _EVENT.size, *event)
        return len(found)

    def _discard(self, gpa: int, size: int, *_: int) -> int:
        if gpa % 4096 or size % 4096 or not size or gpa + size > self._ram_size:
            return -EINVAL
        self._discard_ram(gpa, size)
        return 0

    def _close(self, handle: int, *_: int) -> int:
        if handle not in self._closers:
            return -EBADF
        self.remove_handle(handle)
        return 0

    def _first_terminal(self, operation: int, handle: int, gpa: int, *_: int) -> int:
        # few programs set their terminal: what it takes is imported then
        from pyrovm.unikernel.terminal import Terminal

        self._terminal = Terminal(self)
        self.handlers[abi.PV_TERMINAL] = self._terminal.call
        return self._terminal.call(operation, handle, gpa)

    def _interrupt(self, mask: int, how: int, *_: int) -> int:
        if how != abi.PV_TICKING:  # there is no other vCPU
            return -EINVAL
        self.waiting.set_ticking(mask)
        return 0


def _absent(*_: int) -> int:
    return -ENOSYS


def _nobody_waits(*_: int) -> int:
    return 0
