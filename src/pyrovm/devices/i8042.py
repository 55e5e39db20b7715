"""As much of the i8042 keyboard controller as a microVM needs: reset, and Ctrl-Alt-Del.

Ports 0x60 (data) and 0x64 (status and command); commands as in the IBM PC AT technical reference.
"""

from __future__ import annotations

from pyrovm.errors import StateError
from pyrovm.virtio.counters import Counters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

BUFFER_SIZE = 16

DATA, COMMAND = 0, 4  # offsets from 0x60

CMD_READ_CTR, CMD_WRITE_CTR = 0x20, 0x60
CMD_READ_OUTP, CMD_WRITE_OUTP = 0xD0, 0xD1
CMD_RESET_CPU = 0xFE

STATUS_OUTPUT_FULL, STATUS_COMMAND, STATUS_KEYBOARD_ENABLED = 0x01, 0x08, 0x10
CTR_KEYBOARD_INTERRUPT, CTR_SYSTEM_FLAG = 0x01, 0x04
ACKNOWLEDGE = 0xFA

# Set 2 make codes of Ctrl, Alt and Del.
CTRL_ALT_DEL = (0x14, 0x11, 0xE0, 0x71)


class I8042Counters(Counters):
    """The ``i8042`` metrics."""

    __slots__ = (
        "error_count",
        "missed_read_count",
        "missed_write_count",
        "read_count",
        "reset_count",
        "write_count",
    )

    error_count: int
    missed_read_count: int
    missed_write_count: int
    read_count: int
    reset_count: int
    write_count: int


class I8042:
    """``raise_irq`` pulses the keyboard's line; ``on_reset`` is the guest pressing the button."""

    def __init__(self, raise_irq: Callable[[], object], on_reset: Callable[[], object]) -> None:
        self._raise_irq = raise_irq
        self._on_reset = on_reset
        self.counters = I8042Counters()
        self._status = STATUS_KEYBOARD_ENABLED
        self._control = CTR_KEYBOARD_INTERRUPT | CTR_SYSTEM_FLAG
        self._output_port = 0
        self._command = 0  # that waits for its data byte; 0 is none
        self._buffer = bytearray()

    def trigger_ctrl_alt_del(self) -> None:
        """Queue the three keys and interrupt; what follows is up to the guest.

        Raises:
            StateError: the guest has not read earlier keys.
        """
        if len(self._buffer) + len(CTRL_ALT_DEL) > BUFFER_SIZE:
            raise StateError("I8042 error: i8042 buffer is full.")
        for code in CTRL_ALT_DEL:
            self._push(code)
        self._keyboard_interrupt()

    def _keyboard_interrupt(self) -> None:
        if self._control & CTR_KEYBOARD_INTERRUPT:
            self._raise_irq()

    def _push(self, value: int) -> None:
        if len(self._buffer) < BUFFER_SIZE:
            self._status |= STATUS_OUTPUT_FULL
            self._buffer.append(value)
        else:
            self.counters.error_count += 1

    def read(self, offset: int, size: int) -> int:
        """A guest's read of one byte."""
        if size != 1 or offset not in (DATA, COMMAND):
            self.counters.missed_read_count += 1
            return 0
        self.counters.read_count += 1
        if offset == COMMAND:
            return self._status
        if not self._buffer:
            return 0
        value = self._buffer.pop(0)
        if self._buffer:
            self._keyboard_interrupt()
        else:
            self._status &= ~STATUS_OUTPUT_FULL
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """A guest's write of one byte."""
        if size != 1 or offset not in (DATA, COMMAND):
            self.counters.missed_write_count += 1
            return
        self.counters.write_count += 1
        if offset == COMMAND:
            self._write_command(value)
        elif self._command:
            self._write_argument(value)
        else:
            # Words for the keyboard itself; it only ever says that it heard them.
            self._push(ACKNOWLEDGE)
            self._keyboard_interrupt()

    def _write_command(self, value: int) -> None:
        if value == CMD_RESET_CPU:
            self.counters.reset_count += 1
            self._on_reset()
        elif value == CMD_READ_CTR:
            self._flush()
            self._push(self._control)
        elif value == CMD_READ_OUTP:
            self._flush()
            self._push(self._output_port)
        elif value in (CMD_WRITE_CTR, CMD_WRITE_OUTP):
            self._flush()
            self._status |= STATUS_COMMAND
            self._command = value

    def _write_argument(self, value: int) -> None:
        if self._command == CMD_WRITE_CTR:
            self._control = value
        else:
            self._output_port = value
        self._command = 0
        self._status &= ~STATUS_COMMAND

    def _flush(self) -> None:
        self._buffer.clear()
        self._status &= ~STATUS_OUTPUT_FULL

    def restored(self) -> None:
        """Interrupt once more for what waits: the one before the save may have been lost."""
        if self._buffer:
            self._keyboard_interrupt()

    def state(self) -> dict[str, Any]:
        """Registers and unread keys, as plain data."""
        return {
            "status": self._status,
            "control": self._control,
            "output_port": self._output_port,
            "command": self._command,
            "buffer": bytes(self._buffer),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over saved registers.

        Raises:
            ValueError: more keys than the buffer holds.
        """
        if len(state["buffer"]) > BUFFER_SIZE:
            raise ValueError(f"i8042: {len(state['buffer'])} bytes saved, {BUFFER_SIZE} allowed")
        self._status = state["status"] & 0xFF
        self._control = state["control"] & 0xFF
        self._output_port = state["output_port"] & 0xFF
        self._command = state["command"] & 0xFF
        self._buffer = bytearray(state["buffer"])
