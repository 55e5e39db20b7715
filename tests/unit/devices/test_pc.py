"""What a PC has that a microVM does without, for kernels that do not ask: clock, power, no PCI."""

import pytest

from pyrovm.devices.cmos import Cmos, bcd
from pyrovm.devices.pc_ports import DebugExit, EmptyPorts, PowerButton

NOON = 1709208000.0  # Thursday, 29 February 2024, 12:00 UTC


def register(cmos, index):
    cmos.write(0, 1, index)
    return cmos.read(1, 1)


def test_the_clock_tells_the_date_in_bcd():
    cmos = Cmos(lambda: NOON + 34 * 60 + 56)
    assert [register(cmos, index) for index in (0, 2, 4, 6, 7, 8, 9, 0x32)] == [
        *(0x56, 0x34, 0x12),
        *(0x05, 0x29, 0x02, 0x24, 0x20),
    ]


def test_the_clock_is_never_being_updated_and_its_battery_is_good():
    cmos = Cmos(lambda: NOON)
    assert register(cmos, 0x0A) & 0x80 == 0
    assert register(cmos, 0x0B) & 0x06 == 0x02, "24 hours, BCD"
    assert register(cmos, 0x0D) == 0x80


def test_the_index_comes_without_the_nmi_bit_and_the_clock_cannot_be_set():
    cmos = Cmos(lambda: NOON)
    assert register(cmos, 0x84) == 0x12
    cmos.write(1, 1, 0x23)
    assert register(cmos, 4) == 0x12
    cmos.write(0, 2, 0)
    assert cmos.read(1, 1) == 0x12
    assert cmos.read(0, 1) == 0xFF
    assert register(cmos, 0x55) == 0


def test_two_digits():
    assert [bcd(n) for n in (0, 9, 10, 59, 99)] == [0, 9, 0x10, 0x59, 0x99]


@pytest.mark.parametrize(
    ("access", "ends"),
    [((0, 2, 0x2000), True), ((0, 2, 0x3C00), True), ((0, 2, 0x1C00), False),
     ((0, 1, 0x20), False), ((1, 1, 0x20), False), ((0, 4, 0x2000), False)],
)  # fmt: skip
def test_only_sleep_enable_powers_off(access, ends):
    pressed = []
    button = PowerButton(lambda: pressed.append(True))
    button.write(*access)
    assert bool(pressed) == ends
    assert button.read(0, 2) == 0


def test_the_debug_exit_passes_its_value_on():
    values = []
    port = DebugExit(values.append)
    port.write(0, 1, 41)
    assert (values, port.read(0, 1)) == ([41], 0)


def test_ports_without_a_device_read_as_ones():
    ports = EmptyPorts()
    ports.write(0, 4, 0x80000000)
    assert [ports.read(4, size) for size in (1, 2, 4)] == [0xFF, 0xFFFF, 0xFFFFFFFF]
