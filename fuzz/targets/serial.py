"""The serial port: any accesses of a guest, any input from the host."""

from __future__ import annotations

from fuzz.source import Source
from pyrovm.devices.serial import FIFO_SIZE, Serial


def one_input(data: bytes) -> None:
    """Registers hold bytes, the FIFO its bound, and a saved port is the same port."""
    source = Source(data)
    sent = bytearray()
    irqs = []

    def output(byte: bytes) -> bool:
        sent.extend(byte)
        return len(sent) % 7 != 0  # some get lost

    serial = Serial(lambda: irqs.append(1), output)
    writes = 0
    while source.left:
        kind, offset = source.u8(), source.below(8)
        size = 1 if kind & 0xC0 else source.choice((1, 2, 4, 8))
        if kind % 3 == 0:
            value = serial.read(offset, size)
            assert 0 <= value <= 0xFF
        elif kind % 3 == 1:
            writes += 1
            serial.write(offset, size, int.from_bytes(source.take(size), "little"))
        else:
            piece = source.blob(100)
            room = serial.room
            taken = serial.enqueue(piece)
            assert taken == min(room, len(piece))
        assert 0 <= serial.room <= FIFO_SIZE
        assert len(sent) <= writes
        assert len(irqs) <= len(data)
    state = serial.state()
    other = Serial(lambda: None, lambda _: True)
    other.restore(state)
    assert other.state() == state
    assert [other.read(offset, 1) for offset in range(8)] == [
        serial.read(offset, 1) for offset in range(8)
    ]


SEEDS = [
    b"\xc1\x00A\xc1\x00B",
    b"\xc1\x03\x80\xc1\x00\x0c\xc1\x01\x00\xc1\x03\x03\xc0\x00",  # the divisor
    b"\xc1\x01\x0f\xc2\x00\x05hello\xc0\x02\xc0\x00\xc0\x05",
    b"\xc1\x04\x1b\xc1\x00\x41\xc0\x00\xc0\x06\xc1\x04\x0b",  # loopback
    b"\xc2\x00\x64" + b"x" * 100 + b"\xc0\x00" * 70,
]
