"""What a guest needed first, remembered beside its memory file."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.errors import HostError
from pyrovm.host import mapping
from pyrovm.snapshot import memory, pages, working_set
from pyrovm.snapshot.memory import Layout

PAGE = 4096
LAYOUT = Layout([(0, 2 << 20), (1 << 32, 1 << 20)])


@pytest.fixture
def restored(tmp_path):
    path = tmp_path / "mem"
    path.write_bytes(os.urandom(LAYOUT.size))
    fd = memory.open_file(str(path), LAYOUT)
    found = [memory.map_range(fd, r) for r in LAYOUT.ranges]
    os.close(fd)
    yield str(path), found
    for each in found:
        each.close()


def is_mapped(mappings, offset):
    each, at = (mappings[0], offset) if offset < 2 << 20 else (mappings[1], offset - (2 << 20))
    return any(start <= at < end for start, end in pages.touched(each.address, each.size))


def test_what_was_touched_is_remembered_and_brought_the_next_time(restored):
    path, mappings = restored
    touched = (5 * PAGE, (2 << 20) + 77 * PAGE)
    assert mappings[0].view[touched[0]] is not None
    mappings[1].view[77 * PAGE] = 1
    working_set.record(path, LAYOUT, mappings)
    ranges = working_set.load(path)
    fd = memory.open_file(path, LAYOUT)
    again = [memory.map_range(fd, r) for r in LAYOUT.ranges]
    os.close(fd)
    assert not any(is_mapped(again, offset) for offset in touched)
    done = working_set.prefetch(ranges, LAYOUT, again)
    assert all(is_mapped(again, offset) for offset in touched)
    assert done == sum(end - start for start, end in ranges)
    for each in again:
        each.close()


def test_a_kernel_that_cannot_map_ahead_is_told_what_will_be_needed(restored, monkeypatch):
    _, mappings = restored
    monkeypatch.setattr(working_set, "MADV_POPULATE_READ", 9999)
    assert working_set.prefetch([(0, PAGE)], LAYOUT, mappings) == PAGE


def test_what_will_be_needed_can_be_asked_for_without_a_wait(restored):
    _, mappings = restored
    assert working_set.prefetch([(0, PAGE)], LAYOUT, mappings, wait=False) == PAGE
    assert not is_mapped(mappings, 0)


def test_ranges_keep_their_order_and_cross_the_ends_of_memory(restored):
    path, mappings = restored
    ranges = [((2 << 20) - PAGE, (2 << 20) + PAGE), (0, PAGE)]
    working_set.save(path, ranges)
    assert working_set.load(path) == ranges
    assert working_set.prefetch(ranges, LAYOUT, mappings) == 3 * PAGE


def test_a_memory_file_that_has_changed_has_no_working_set(restored):
    path, _ = restored
    assert working_set.load(path) == []
    working_set.save(path, [(0, PAGE)])
    assert working_set.load(path) == [(0, PAGE)]
    os.utime(path, ns=(1, 1))
    assert working_set.load(path) == []


def test_a_memory_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(HostError, match="none: No such file"):
        working_set.save(str(tmp_path / "none"), [])
    assert working_set.load(str(tmp_path / "none")) == []


def test_any_damage_makes_it_none(restored):
    path, _ = restored
    working_set.save(path, [(0, PAGE), (8 * PAGE, 9 * PAGE)])
    with open(path + working_set.SUFFIX, "rb") as file:
        data = file.read()
    facts = os.stat(path)
    assert len(working_set.parse(data, facts.st_size, facts.st_mtime_ns)) == 2
    for index in range(len(data)):
        damaged = bytearray(data)
        damaged[index] ^= 0xFF
        assert working_set.parse(bytes(damaged), facts.st_size, facts.st_mtime_ns) == []
        assert working_set.parse(data[:index], facts.st_size, facts.st_mtime_ns) == []


@given(st.binary(max_size=100))
def test_anything_else_is_none(data):
    assert working_set.parse(data, 1 << 20, 1) == []


def test_a_memory_file_that_became_shorter_is_an_error(restored):
    path, mappings = restored
    os.truncate(path, PAGE)
    with pytest.raises(HostError, match="Cannot load the working set"):
        working_set.prefetch([(64 * PAGE, 65 * PAGE)], LAYOUT, mappings)


def test_memory_in_no_range_is_left_alone():
    small = Layout([(0, PAGE)])
    with_one = [mapping.anonymous(PAGE)]
    assert working_set.prefetch([(4 * PAGE, 5 * PAGE)], small, with_one) == 0
