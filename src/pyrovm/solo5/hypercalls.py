"""The eight hypercalls of Solo5's hvt ABI, version 2.

A hypercall is a 32-bit OUT to port 0x500 + number whose value points to a block of arguments.  The
block is copied once, every pointer in it is checked (:mod:`pyrovm.solo5.window`), and answers go
back into it.  What a guest may get wrong at run time (a handle, a range of a disk) is an answer of
EINVAL; what no binding ever does (a bad pointer, an unknown number) ends the guest.
"""

from __future__ import annotations

from struct import Struct

from pyrovm.errors import GuestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from pyrovm.solo5.window import Window

    class BlockDevice(Protocol):
        """A block device's host side; sizes and offsets in bytes, ranges checked by the caller."""

        capacity: int

        def read(self, view: memoryview, offset: int) -> bool:
            """Fill ``view`` from ``offset`` on; False where the host could not."""

        def write(self, view: memoryview, offset: int) -> bool:
            """Write ``view`` at ``offset``; False where the host could not."""

    class NetDevice(Protocol):
        """A network device's host side."""

        def read(self, view: memoryview) -> int:
            """One frame into ``view``; its size, 0 where none waits."""

        def write(self, view: memoryview) -> bool:
            """Send one frame; False where the host cannot take it now."""

    class Host(Protocol):
        """What else a guest may ask for."""

        def wall_clock(self) -> int:
            """Nanoseconds since 1970."""

        def write_console(self, data: memoryview) -> None:
            """Write to standard output."""

        def wait(self, timeout_ns: int) -> list[int]:
            """Sleep until a network device is readable or the time is up; the readable handles."""


PORT = 0x500
WALLTIME, PUTS, POLL, BLOCK_WRITE, BLOCK_READ, NET_WRITE, NET_READ, HALT = range(1, 9)

OK, AGAIN, EINVAL, EUNSPEC = range(4)
HALT_COOKIE_SIZE = 512

_PUTS = Struct("<QQ")
_POLL = Struct("<QQi4x")
_BLOCK = Struct("<QQQQi4x")
_NET = Struct("<QQQi4x")
_HALT = Struct("<Qi4x")
_U64, _S32 = Struct("<Q"), Struct("<i")
_POLL_READY, _POLL_RET = 8, 16
_BLOCK_LENGTH, _BLOCK_RET = 24, 32
_NET_LENGTH, _NET_RET = 16, 24


class Hypercalls:
    """Serves one guest; ``blocks`` and ``nets`` are its devices by handle."""

    def __init__(
        self,
        window: Window,
        blocks: Mapping[int, BlockDevice],
        nets: Mapping[int, NetDevice],
        host: Host,
    ) -> None:
        self._window = window
        self._blocks = blocks
        self._nets = nets
        self._host = host
        self.exit_status = 0  # what the guest said with HALT
        self._handlers: dict[int, Callable[[int], bool]] = {
            WALLTIME: self._walltime,
            PUTS: self._puts,
            POLL: self._poll,
            HALT: self._halt,
        }
        # As in Solo5's tender, calls of a kind of device that the guest has none of do not exist.
        if blocks:
            self._handlers[BLOCK_WRITE] = self._block_write
            self._handlers[BLOCK_READ] = self._block_read
        if nets:
            self._handlers[NET_WRITE] = self._net_write
            self._handlers[NET_READ] = self._net_read

    def call(self, number: int, gpa: int) -> bool:
        """Serve one hypercall whose arguments are at ``gpa``; whether the guest goes on.

        Raises:
            GuestError: there is no such call, or a pointer is bad.
        """
        handler = self._handlers.get(number)
        if handler is None:
            raise GuestError(f"Invalid guest hypercall: num={number}")
        return handler(gpa)

    def _walltime(self, gpa: int) -> bool:
        _U64.pack_into(self._window.writable(gpa, _U64.size), 0, self._host.wall_clock())
        return True

    def _puts(self, gpa: int) -> bool:
        data, size = _PUTS.unpack(self._window.readable(gpa, _PUTS.size))
        self._host.write_console(self._window.readable(data, size))
        return True

    def _poll(self, gpa: int) -> bool:
        block = self._window.writable(gpa, _POLL.size)
        (timeout_ns,) = _U64.unpack_from(block)
        ready = self._host.wait(timeout_ns)
        _U64.pack_into(block, _POLL_READY, sum(1 << handle for handle in ready))
        _S32.pack_into(block, _POLL_RET, len(ready))
        return True

    def _halt(self, gpa: int) -> bool:
        cookie, self.exit_status = _HALT.unpack(self._window.readable(gpa, _HALT.size))
        if cookie:
            self._window.readable(cookie, HALT_COOKIE_SIZE)
        return False

    # ------------------------------------------------------------------ devices

    def _block_write(self, gpa: int) -> bool:
        block = self._window.writable(gpa, _BLOCK.size)
        handle, offset, data, size, _ = _BLOCK.unpack(block)
        device = self._block_device(handle, offset, size)
        result = EINVAL
        if device is not None:
            view = self._window.readable(data, size)
            result = OK if device.write(view, offset) else EUNSPEC
        _S32.pack_into(block, _BLOCK_RET, result)
        return True

    def _block_read(self, gpa: int) -> bool:
        block = self._window.writable(gpa, _BLOCK.size)
        handle, offset, data, size, _ = _BLOCK.unpack(block)
        device = self._block_device(handle, offset, size)
        result = EINVAL
        if device is not None:
            view = self._window.writable(data, size)
            result = OK if device.read(view, offset) else EUNSPEC
        _U64.pack_into(block, _BLOCK_LENGTH, size if result == OK else 0)
        _S32.pack_into(block, _BLOCK_RET, result)
        return True

    def _block_device(self, handle: int, offset: int, size: int) -> BlockDevice | None:
        """The device, or None where it does not exist or does not have that range."""
        device = self._blocks.get(handle)
        if device is None or offset >= device.capacity or size > device.capacity - offset:
            return None
        return device

    def _net_write(self, gpa: int) -> bool:
        block = self._window.writable(gpa, _NET.size)
        handle, data, size, _ = _NET.unpack(block)
        _S32.pack_into(block, _NET_RET, net_write(self._window, self._nets, handle, data, size))
        return True

    def _net_read(self, gpa: int) -> bool:
        block = self._window.writable(gpa, _NET.size)
        handle, data, size, _ = _NET.unpack(block)
        result, length = net_read(self._window, self._nets, handle, data, size)
        _U64.pack_into(block, _NET_LENGTH, length)
        _S32.pack_into(block, _NET_RET, result)
        return True


def net_write(
    window: Window, nets: Mapping[int, NetDevice], handle: int, data: int, size: int
) -> int:
    """Send the frame at ``data``; OK, AGAIN or EINVAL.  hot: per frame.

    Raises:
        GuestError: the pointer is bad.
    """
    device = nets.get(handle)
    if device is None:
        return EINVAL
    return OK if device.write(window.readable(data, size)) else AGAIN


def net_read(
    window: Window, nets: Mapping[int, NetDevice], handle: int, data: int, size: int
) -> tuple[int, int]:
    """Receive a frame to ``data``; OK, AGAIN or EINVAL, and the frame's size.  hot: per frame.

    Raises:
        GuestError: the pointer is bad.
    """
    device = nets.get(handle)
    if device is None:
        return EINVAL, 0
    length = device.read(window.writable(data, size))
    return (OK, length) if length else (AGAIN, 0)
