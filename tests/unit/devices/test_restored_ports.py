"""Serial port and keyboard controller after a restore: what waits is announced again."""

from pyrovm.devices.cmos import Cmos
from pyrovm.devices.i8042 import I8042
from pyrovm.devices.serial import DATA, FCR, IER, IER_RECEIVED, IER_THR_EMPTY, Serial


class Irqs:
    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1


def serial(state=None):
    irqs = Irqs()
    made = Serial(irqs, lambda _data: True)
    if state is not None:
        made.restore(state)
    return made, irqs


def test_input_that_nobody_has_read_interrupts_again():
    port, _ = serial()
    port.write(IER, 1, IER_RECEIVED)
    port.enqueue(b"ab")
    again, irqs = serial(port.state())
    again.restored()
    assert irqs.count == 1
    assert [again.read(DATA, 1), again.read(DATA, 1)] == [*b"ab"]
    irqs.count = 0
    again.restored()
    assert irqs.count == 0


def test_an_empty_transmitter_that_was_not_acknowledged_interrupts_again():
    port, _ = serial()
    port.write(IER, 1, IER_THR_EMPTY)
    again, irqs = serial(port.state())
    again.restored()
    assert irqs.count == 1
    assert again.read(FCR, 1) & 0x0F == 2
    again.restored()
    assert irqs.count == 1


def test_a_port_that_does_not_interrupt_stays_silent():
    port, _ = serial()
    port.enqueue(b"a")
    again, irqs = serial(port.state())
    again.restored()
    assert irqs.count == 0


def test_keys_that_nobody_has_read_interrupt_again():
    keyboard = I8042(Irqs(), Irqs())
    keyboard.trigger_ctrl_alt_del()
    irqs = Irqs()
    again = I8042(irqs, Irqs())
    again.restore(keyboard.state())
    again.restored()
    assert irqs.count == 1
    assert [again.read(0, 1) for _ in range(4)] == [0x14, 0x11, 0xE0, 0x71]
    irqs.count = 0
    again.restored()
    assert irqs.count == 0


def test_the_clocks_chosen_register_stays_chosen():
    clock = Cmos(lambda: 0.0)
    clock.write(0, 1, 0x0D)
    again = Cmos(lambda: 0.0)
    again.restore(clock.state())
    assert again.read(1, 1) == 0x80
