"""Signs that a guest gives on its console: escape sequences that terminals swallow.

A sign is ``ESC ] 7777 ; NAME [= VALUE] BEL``, an operating system command of a number that no
terminal uses.  pyrovm's own guests say ``init`` when user space runs and ``exit=N`` before they
stop; other guests need not know of any of it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

BEGIN, END = b"\x1b]7777;", b"\x07"
MAX_SIGN = 64  # bytes of name and value

INIT, EXIT = "init", "exit"


class SignFilter:
    """Takes signs out of a stream of bytes and calls ``on_sign(name, value)`` for each.

    Whatever is no sign passes unchanged, at the latest when it turns out to be none.
    """

    def __init__(self, on_sign: Callable[[str, str], object]) -> None:
        self._on_sign = on_sign
        self._held = b""

    def __call__(self, data: bytes) -> bytes:
        """The bytes that pass.  hot: per byte of console output."""
        if not self._held and b"\x1b" not in data:
            return data
        passed = b""
        for value in data:
            passed += self._take(value.to_bytes(1, "little"))
        return passed

    def _take(self, byte: bytes) -> bytes:
        held = self._held + byte
        if len(held) <= len(BEGIN):
            if BEGIN.startswith(held):
                self._held = held
                return b""
        elif byte == END:
            self._held = b""
            name, _, value = held[len(BEGIN) : -1].decode("ascii", "replace").partition("=")
            self._on_sign(name, value)
            return b""
        elif len(held) < len(BEGIN) + MAX_SIGN and byte.isascii() and byte.decode().isprintable():
            self._held = held
            return b""
        self._held = b""
        if byte == BEGIN[:1]:  # perhaps this one begins a sign
            self._held = byte
            return held[:-1]
        return held
