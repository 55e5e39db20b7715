"""What a guest needed first, remembered beside its memory file."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.errors import HostError
from pyrovm.snapshot import memory, working_set
from pyrovm.snapshot.layout import Layout

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


def test_what_was_touched_is_remembered_in_its_place_in_the_file(restored):
    path, mappings = restored
    touched = (5 * PAGE, (2 << 20) + 77 * PAGE)
    assert mappings[0].view[touched[0]] is not None
    mappings[1].view[77 * PAGE] = 1
    made = working_set.record(path, [(0, mappings[0]), (2 << 20, mappings[1])])
    assert working_set.load(path) == made
    for offset in touched:
        assert any(start <= offset < end for start, end in made)


def test_what_is_on_the_disk_only_is_asked_for(restored, tmp_path):
    path, _ = restored
    with open(path, "rb") as file:
        fd = file.fileno()
        ranges = [(n * PAGE, n * PAGE + PAGE) for n in range(0, 700, 7)]
        file.read()
        assert working_set.read_ahead(fd, ranges) == 0
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        if working_set._is_cached(fd, 0):
            pytest.skip("files here are never on the disk only")
        assert working_set.read_ahead(fd, ranges) == len(ranges) * PAGE
    assert working_set.read_ahead(-1, []) == 0
    with pytest.raises(HostError, match="Cannot read the working set: Bad file descriptor"):
        working_set.read_ahead(-1, ranges)


def test_ranges_keep_their_order(restored):
    path, _ = restored
    ranges = [((2 << 20) - PAGE, (2 << 20) + PAGE), (0, PAGE)]
    working_set.save(path, ranges)
    assert working_set.load(path) == ranges


def test_a_memory_file_that_has_changed_has_no_working_set(restored):
    path, _ = restored
    assert working_set.load(path) == []
    assert not working_set.is_wanted(path)
    open(path + working_set.SUFFIX, "wb").close()
    assert working_set.load(path) == []
    assert working_set.is_wanted(path)
    working_set.save(path, [(0, PAGE)])
    assert not working_set.is_wanted(path)
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
