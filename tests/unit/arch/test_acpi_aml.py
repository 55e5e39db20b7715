"""AML: each encoding as the ACPI specification's grammar has it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.arch.x86.acpi import aml


@pytest.mark.parametrize(
    ("path", "encoded"),
    [
        ("_CRS", b"_CRS"),
        ("GED", b"GED_"),
        ("\\_SB", b"\\_SB_"),
        ("\\_SB.VGEN", b"\\\x2e_SB_VGEN"),
        ("\\_SB.PC00.S01", b"\\\x2f\x03_SB_PC00S01_"),
    ],
)
def test_names_are_segments_of_four_letters(path, encoded):
    assert aml.name_string(path) == encoded


@pytest.mark.parametrize("path", ["", "\\", "TOOLONG", "A.B.TOOLONG", "A..B", "A-B", "Ä"])
def test_what_is_no_name_is_refused(path):
    with pytest.raises(ValueError, match="is no ACPI name"):
        aml.name_string(path)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, b"\x00"),
        (1, b"\x01"),
        (2, b"\x0a\x02"),
        (0xFF, b"\x0a\xff"),
        (0x100, b"\x0b\x00\x01"),
        (0xFFFF, b"\x0b\xff\xff"),
        (0x10000, b"\x0c\x00\x00\x01\x00"),
        (0xFFFFFFFF, b"\x0c\xff\xff\xff\xff"),
        (1 << 32, b"\x0e\x00\x00\x00\x00\x01\x00\x00\x00"),
    ],
)
def test_integers_take_their_shortest_form(value, encoded):
    assert aml.integer(value) == encoded


def test_eisa_ids_are_three_letters_of_five_bits_and_a_number():
    assert aml.eisa_id("PNP0A03") == b"\x0c\x41\xd0\x0a\x03"  # the specification's own example
    assert aml.eisa_id("PNP0501") == b"\x0c\x41\xd0\x05\x01"


def decoded_length(encoded):
    """PkgLength: its value and how many bytes it takes."""
    extra = encoded[0] >> 6
    if not extra:
        return encoded[0] & 0x3F, 1
    low = encoded[0] & 0xF
    return low | int.from_bytes(encoded[1 : 1 + extra], "little") << 4, 1 + extra


@given(
    st.one_of(
        st.integers(0, 70000),
        st.sampled_from([62, 63, 0xFFC, 0xFFD, 0xFFE, 0xFFFFB, 0xFFFFC, 0xFFFFD]),
    )
)
def test_a_package_length_counts_itself_and_all_that_follows(size):
    encoded = aml.buffer(bytes(size))[1:]
    assert decoded_length(encoded)[0] == len(encoded)


def test_a_package_knows_its_elements():
    assert (
        aml.package(aml.integer(0xDFFF0), aml.integer(0)) == b"\x12\x08\x02\x0c\xf0\xff\x0d\x00\x00"
    )


def test_descriptors_say_their_own_length():
    for descriptor in (
        aml.memory32(0xC0001000, 0x1000),
        aml.interrupt(5),
        aml.memory_range32(0xC0000000, 0x1000),
        aml.memory_range64(1 << 40, 1 << 30),
        aml.memory_window(0xDE000, 0x1000),
        aml.bus_range(0, 0),
    ):
        assert descriptor[0] & 0x80
        assert int.from_bytes(descriptor[1:3], "little") == len(descriptor) - 3
    ports = aml.io_ports(0x3F8, 8)
    assert ports[0] & 7 == len(ports) - 1


def test_resources_end_with_a_tag():
    assert aml.resources().endswith(b"\x79\x00")
