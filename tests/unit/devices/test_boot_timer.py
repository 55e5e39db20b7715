"""The boot timer logs once for each agreed byte, and nothing else moves it."""

from hypothesis import given
from hypothesis import strategies as st

from pyrovm.devices.boot_timer import BOOTED, BootTimer


def timer(*readings):
    lines, clock = [], iter(readings)
    return BootTimer(lambda: next(clock), lines.append), lines


def test_the_line_is_the_one_that_clients_parse():
    device, lines = timer((1_000_000, 500), (1_042_137, 9_750))
    device.write(0, 1, BOOTED)
    assert lines == ["Guest-boot-time =  42137 us 42 ms,   9250 CPU us 9 CPU ms"]


def test_long_boots_are_not_cut():
    device, lines = timer((0, 0), (12_345_678, 1_234_567))
    device.write(0, 1, BOOTED)
    assert lines == ["Guest-boot-time = 12345678 us 12345 ms, 1234567 CPU us 1234 CPU ms"]


@given(st.integers(0, 4095), st.sampled_from([1, 2, 4, 8]), st.integers(0, 2**64 - 1))
def test_any_other_write_is_ignored(offset, size, value):
    device, lines = timer((0, 0), (1, 1))
    if (offset, size, value) != (0, 1, BOOTED):
        device.write(offset, size, value)
        assert lines == []


def test_there_is_nothing_to_read():
    device, _ = timer((0, 0))
    assert device.read(0, 4) == 0
