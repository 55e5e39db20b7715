"""A 16550A UART at COM1 (National Semiconductor PC16550D data sheet).

Bytes the guest sends go to ``output`` at once.  Bytes for the guest wait in a 64-byte FIFO; whoever
has more asks :attr:`Serial.room` and is told by ``on_room`` when the guest has read some.
"""

from __future__ import annotations

from pyrovm.virtio.counters import Counters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

FIFO_SIZE = 64

# Registers: offset 0 and 1 are the divisor's bytes while LCR_DLAB is set.
DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR = range(8)
FCR = IIR

IER_RECEIVED, IER_THR_EMPTY = 0x01, 0x02
IER_MASK = 0x0F
IIR_NONE, IIR_THR_EMPTY, IIR_RECEIVED = 0x01, 0x02, 0x04
IIR_FIFO = 0xC0
LCR_DLAB = 0x80
MCR_LOOP, MCR_OUT2, MCR_OUT1, MCR_RTS, MCR_DTR = 0x10, 0x08, 0x04, 0x02, 0x01
LSR_DATA, LSR_THR_EMPTY, LSR_IDLE = 0x01, 0x20, 0x40
MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD = 0x10, 0x20, 0x40, 0x80

DEFAULT_DIVISOR = 12  # 9600 baud
DEFAULT_LCR = 0x03  # 8 bits, no parity, 1 stop bit


class SerialCounters(Counters):
    """The ``uart`` metrics."""

    __slots__ = (
        "error_count",
        "flush_count",
        "missed_read_count",
        "missed_write_count",
        "rate_limiter_dropped_bytes",
        "read_count",
        "write_count",
    )

    error_count: int
    flush_count: int
    missed_read_count: int
    missed_write_count: int
    rate_limiter_dropped_bytes: int
    read_count: int
    write_count: int


class Serial:
    """``raise_irq`` pulses the interrupt line; ``output`` takes the guest's bytes one by one.

    ``output`` returns False where the byte was lost; :meth:`count_lost` is for what is lost later.
    """

    def __init__(
        self,
        raise_irq: Callable[[], object],
        output: Callable[[bytes], bool],
        on_room: Callable[[], object] | None = None,
    ) -> None:
        self._raise_irq = raise_irq
        self._output = output
        self._on_room = on_room
        self.counters = SerialCounters()
        self._received = bytearray()
        self._divisor = DEFAULT_DIVISOR
        self._ier = 0
        self._lcr = DEFAULT_LCR
        self._mcr = MCR_OUT2
        self._scr = 0
        self._thr_empty_pending = False
        # Whether a byte written to DATA goes out and has no other effect.
        self.is_plain = True

    def _note_plain(self) -> None:
        self.is_plain = not (
            self._lcr & LCR_DLAB or self._mcr & MCR_LOOP or self._ier & IER_THR_EMPTY
        )

    def count_dropped(self, size: int) -> None:
        """The output's rate limit swallowed ``size`` bytes."""
        self.counters.rate_limiter_dropped_bytes += size

    def count_lost(self, size: int) -> None:
        """``size`` bytes that ``output`` had taken did not arrive after all."""
        self.counters.write_count -= size
        self.counters.missed_write_count += size

    def line_status(self) -> int:
        """The LSR, which drivers poll before each byte.  hot: per poll; needs no lock."""
        return LSR_THR_EMPTY | LSR_IDLE | LSR_DATA if self._received else LSR_THR_EMPTY | LSR_IDLE

    @property
    def room(self) -> int:
        """How many bytes :meth:`enqueue` would take now."""
        return 0 if self._mcr & MCR_LOOP else FIFO_SIZE - len(self._received)

    def enqueue(self, data: bytes) -> int:
        """Bytes for the guest; returns how many fitted."""
        taken = data[: self.room]
        if taken:
            self._received += taken
            self._received_interrupt()
        return len(taken)

    def _received_interrupt(self) -> None:
        if self._ier & IER_RECEIVED:
            self._raise_irq()

    def read(self, offset: int, size: int) -> int:
        """A guest's read; only single bytes are defined.  hot: per LSR poll."""
        if offset == LSR:
            return self.line_status()
        self.counters.read_count += 1
        if size != 1:
            self.counters.missed_read_count += 1
            return 0
        if offset in (DATA, IER) and self._lcr & LCR_DLAB:
            return self._divisor >> 8 * offset & 0xFF
        if offset == DATA:
            return self._read_data()
        if offset == IER:
            return self._ier
        if offset == IIR:
            return self._read_iir()
        if offset == LCR:
            return self._lcr
        if offset == MCR:
            return self._mcr
        if offset == MSR:
            return self._modem_status()
        return self._scr

    def _read_data(self) -> int:
        if not self._received:
            self.counters.missed_read_count += 1
            return 0
        was_full = len(self._received) >= FIFO_SIZE
        value = self._received.pop(0)
        if self._received:
            self._received_interrupt()
        if was_full and self._on_room is not None:
            self._on_room()
        return value

    def _read_iir(self) -> int:
        if self._received and self._ier & IER_RECEIVED:
            return IIR_RECEIVED | IIR_FIFO
        if self._thr_empty_pending:
            self._thr_empty_pending = False  # reading the IIR acknowledges this one
            return IIR_THR_EMPTY | IIR_FIFO
        return IIR_NONE | IIR_FIFO

    def _modem_status(self) -> int:
        if not self._mcr & MCR_LOOP:
            return MSR_CTS | MSR_DSR | MSR_DCD
        # In loopback the outputs come back as inputs: a driver's self test.
        status = 0
        for bit, seen in (
            (MCR_RTS, MSR_CTS),
            (MCR_DTR, MSR_DSR),
            (MCR_OUT1, MSR_RI),
            (MCR_OUT2, MSR_DCD),
        ):
            if self._mcr & bit:
                status |= seen
        return status

    def write(self, offset: int, size: int, value: int) -> None:
        """A guest's write; only single bytes are defined.  hot: per byte of output."""
        if size != 1:
            self.counters.missed_write_count += 1
            return
        if offset == DATA and not self._lcr & LCR_DLAB:
            self._transmit(value)
        elif offset in (DATA, IER) and self._lcr & LCR_DLAB:
            shift = 8 * offset
            self._divisor = self._divisor & ~(0xFF << shift) | value << shift
        elif offset == IER:
            self._write_ier(value)
        elif offset == LCR:
            self._lcr = value
            self._note_plain()
        elif offset == MCR:
            left_loop = self._mcr & MCR_LOOP and not value & MCR_LOOP
            self._mcr = value & 0x1F
            self._note_plain()
            if left_loop and self._on_room is not None:
                self._on_room()
        elif offset == SCR:
            self._scr = value

    def _transmit(self, value: int) -> None:
        if self._mcr & MCR_LOOP:
            if len(self._received) < FIFO_SIZE:
                self._received.append(value)
                self._received_interrupt()
            return
        if self._output(value.to_bytes(1, "little")):
            self.counters.write_count += 1
        else:
            self.counters.missed_write_count += 1
        if self._ier & IER_THR_EMPTY:
            self._thr_empty_pending = True
            self._raise_irq()

    def _write_ier(self, value: int) -> None:
        old, self._ier = self._ier, value & IER_MASK
        self._note_plain()
        if self._ier & ~old & IER_THR_EMPTY:
            # Sending never takes time here, so the holding register is always empty.
            self._thr_empty_pending = True
            self._raise_irq()
        elif not self._ier & IER_THR_EMPTY:
            self._thr_empty_pending = False
        if self._ier & ~old & IER_RECEIVED and self._received:
            self._raise_irq()

    def state(self) -> dict[str, Any]:
        """Registers and unread input, as plain data."""
        return {
            "divisor": self._divisor,
            "ier": self._ier,
            "lcr": self._lcr,
            "mcr": self._mcr,
            "scr": self._scr,
            "thr_empty_pending": self._thr_empty_pending,
            "received": bytes(self._received),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over saved registers.

        Raises:
            ValueError: more input than the FIFO holds.
        """
        if len(state["received"]) > FIFO_SIZE:
            raise ValueError(f"serial: {len(state['received'])} bytes of input, FIFO {FIFO_SIZE}")
        self._divisor = state["divisor"] & 0xFFFF
        self._ier = state["ier"] & IER_MASK
        self._lcr = state["lcr"] & 0xFF
        self._mcr = state["mcr"] & 0x1F
        self._scr = state["scr"] & 0xFF
        self._thr_empty_pending = bool(state["thr_empty_pending"])
        self._received = bytearray(state["received"])
        self._note_plain()

    def restored(self) -> None:
        """Interrupt once more for what waits: the one before the save may have been lost."""
        if self._thr_empty_pending or (self._received and self._ier & IER_RECEIVED):
            self._raise_irq()
