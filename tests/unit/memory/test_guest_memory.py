"""The one door to guest memory: every miss is the guest's error, every VMM write is remembered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.memory.guest_memory import GuestMemory, GuestMemoryError, Region


def region(gpa, size, hva=0):
    return Region(gpa, memoryview(bytearray(size)), hva)


def split():
    return GuestMemory([region(0, 0x4000, 0x7000_0000), region(0x10_0000, 0x2000, 0x8000_0000)])


def test_what_is_written_is_read_back_in_every_region():
    memory = split()
    for gpa in (0, 0x3FF0, 0x10_0000, 0x10_1FF0):
        memory.write(gpa, b"0123456789abcdef")
        assert memory.read(gpa, 16) == b"0123456789abcdef"


def test_a_slice_is_live():
    memory = split()
    view = memory.slice(0x100, 4)
    memory.write(0x102, b"zz")
    assert bytes(view) == b"\0\0zz"


@pytest.mark.parametrize(
    ("gpa", "size"),
    [
        (0x4000, 1),
        (0x3FFF, 2),
        (0x10_1FFF, 2),
        (0xF_FFFF, 1),
        (0xF_FFFF, 2),
        (-1, 1),
        (0, -1),
        ((1 << 64) - 1, 2),
        (0, 1 << 40),
    ],
)
def test_a_range_that_is_not_wholly_in_one_region_is_refused(gpa, size):
    memory = split()
    for access in (memory.slice, memory.writable, memory.read, memory.hva):
        with pytest.raises(GuestMemoryError):
            access(gpa, size)


def test_regions_must_not_overlap():
    memory = split()
    with pytest.raises(ValueError, match="overlaps"):
        memory.add(region(0x3000, 0x2000))


def test_a_region_comes_and_goes():
    memory = split()
    extra = region(1 << 40, 0x1000)
    memory.add(extra)
    memory.write(1 << 40, b"x")
    memory.remove(extra)
    with pytest.raises(GuestMemoryError):
        memory.read(1 << 40, 1)
    assert [r.gpa for r in memory.regions] == [0, 0x10_0000]
    assert memory.size == 0x6000


def test_host_addresses_follow_the_regions():
    memory = split()
    assert memory.hva(0x10, 4) == 0x7000_0010
    assert memory.hva(0x10_0004, 4) == 0x8000_0004


def test_only_writes_are_dirty_and_only_while_tracked():
    memory = split()
    memory.write(0, b"x")
    assert memory.take_dirty() == set()
    memory.track_dirty(True)
    memory.read(0x1000, 16)
    memory.write(0x1FFF, b"xy")
    memory.writable(0x10_0000, 1)
    memory.mark_dirty(0x3000, 0)
    assert memory.take_dirty() == {1, 2, 0x100}
    assert memory.take_dirty() == set()


@given(st.integers(0, 0x5000), st.integers(0, 0x3000))
def test_a_range_is_readable_exactly_when_it_lies_in_a_region(gpa, size):
    memory = GuestMemory([region(0, 0x2000), region(0x3000, 0x1000)])
    inside = (gpa + size <= 0x2000) or (gpa >= 0x3000 and gpa + size <= 0x4000)
    try:
        assert len(memory.read(gpa, size)) == size
        assert inside
    except GuestMemoryError:
        assert not inside
