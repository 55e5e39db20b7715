"""The keyboard controller: any accesses of a guest, and Ctrl-Alt-Del from the host."""

from __future__ import annotations

from fuzz.source import Source
from pyrovm.devices.i8042 import BUFFER_SIZE, CMD_RESET_CPU, COMMAND, DATA, I8042
from pyrovm.errors import StateError


def one_input(data: bytes) -> None:
    """Registers hold bytes, the buffer its bound, only the reset command resets."""
    source = Source(data)
    irqs, resets = [], []
    controller = I8042(lambda: irqs.append(1), lambda: resets.append(1))
    commands = 0
    while source.left:
        kind = source.u8()
        size = 1 if kind & 0xC0 else source.choice((1, 2, 4))
        offset = source.choice((DATA, COMMAND, DATA, COMMAND, 1, 2, 3))
        if kind % 3 == 0:
            assert 0 <= controller.read(offset, size) <= 0xFF
        elif kind % 3 == 1:
            value = source.u8()
            commands += (offset, size, value) == (COMMAND, 1, CMD_RESET_CPU)
            controller.write(offset, size, value)
        else:
            try:
                controller.trigger_ctrl_alt_del()
            except StateError:
                assert len(controller.state()["buffer"]) > BUFFER_SIZE - 4
        state = controller.state()
        assert len(state["buffer"]) <= BUFFER_SIZE
        assert len(resets) == commands
        assert bool(state["status"] & 1) == bool(state["buffer"])
        for name in ("status", "control", "output_port", "command"):
            assert 0 <= state[name] <= 0xFF
    other = I8042(lambda: None, lambda: None)
    other.restore(state := controller.state())
    assert other.state() == state
    assert other.read(COMMAND, 1) == controller.read(COMMAND, 1)


SEEDS = [
    b"\xc1\x01\xfe",
    b"\xc1\x01\x20\xc0\x00\xc0\x01",
    b"\xc1\x01\x60\xc1\x00\x47\xc1\x01\x20\xc0\x00",
    b"\xc1\x01\xd1\xc1\x00\xdf\xc1\x01\xd0\xc0\x00",
    b"\xc2\x00" * 5 + b"\xc0\x00" * 20,
    b"\xc1\x00\x55\xc0\x00",
]
