"""The terminal of ``pyrovm run``: raw mode, and an escape key for words to the machine itself."""

from __future__ import annotations

import os

from pyrovm.machine.console import RawTerminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STDIN = 0
HELP = """\r
  {key} ?      this help\r
  {key} q      stop the machine\r
  {key} c      press Ctrl-Alt-Del\r
  {key} p      pause, or go on\r
  {key} t      show the timeline so far\r
  {key} w      tell the guest's shell the size of this window (types an stty command)\r
  {key} {key}  send {key} itself\r
"""


def key_name(key: bytes) -> str:
    """How to show the escape key."""
    value = key[0]
    return f"Ctrl-{chr(value + 64)}" if value < 32 else chr(value)


class Terminal:
    """Keys in, keys for the guest out; ``commands`` maps a key behind the escape to its action.

    An action returns bytes that the guest shall get, mostly none.
    """

    def __init__(self, escape: bytes, commands: Mapping[bytes, Callable[[], bytes]]) -> None:
        self._escape = escape
        self._commands = commands
        self._escaped = False
        self._raw = RawTerminal(STDIN)
        self.is_interactive = os.isatty(STDIN)

    def enter(self) -> None:
        """Raw mode, if this is a terminal; restored by :meth:`leave` and on signals."""
        self._raw.enter()
        if self.is_interactive:
            self._raw.restore_on_signals()

    def leave(self) -> None:
        """The mode from before."""
        self._raw.restore()

    def keys(self, data: bytes) -> bytes:
        """What the guest gets of what was typed."""
        if not self.is_interactive:
            return data
        passed = b""
        for value in data:
            key = bytes([value])
            if self._escaped:
                self._escaped = False
                passed += self._command(key)
            elif key == self._escape:
                self._escaped = True
            else:
                passed += key
        return passed

    def _command(self, key: bytes) -> bytes:
        if key == self._escape:
            return key
        action = self._commands.get(key)
        if action is not None:
            return action()
        self.say(HELP.format(key=key_name(self._escape)))
        return b""

    @staticmethod
    def say(text: str) -> None:
        """Show something to the user, outside the guest's output."""
        os.write(2, text.encode())


def window_size() -> tuple[int, int] | None:
    """Rows and columns of the terminal, None where there is none."""
    try:
        size = os.get_terminal_size(STDIN)
    except OSError:
        return None
    return (size.lines, size.columns) if size.lines and size.columns else None
