"""Memory files: what is in them, what is a hole, and what comes back."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.errors import HostError, SnapshotError
from pyrovm.host import mapping
from pyrovm.snapshot import memory, pages, state
from pyrovm.snapshot.layout import Layout
from pyrovm.snapshot.memory import Source

PAGE = 4096
SIZE = 64 * PAGE
LAYOUT = Layout([(0, SIZE)])

page_sets = st.sets(st.integers(0, 63))


def ram(*numbers, size=SIZE):
    """Fresh guest memory with something in these pages."""
    found = mapping.anonymous(size)
    for number in numbers:
        found.view[number * PAGE + number] = number + 1
    return found


def source_of(found, **kwargs):
    return Source(found.view, found.address, 0, **kwargs)


def save(path, *sources, size=SIZE):
    file = memory.prepare_full(str(path), size, sources)
    file.publish()
    return file


def data_pages(path):
    """The pages that take room."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return {
            number
            for start, end in pages.data_of(fd, 0, os.path.getsize(path))
            for number in range(start // PAGE, end // PAGE)
        }
    finally:
        os.close(fd)


def test_a_full_file_has_every_page_and_only_those_with_anything_in_them(tmp_path):
    guest = ram(1, 2, 40)
    guest.view[50 * PAGE] = 0  # touched, but zero
    file = save(tmp_path / "mem", source_of(guest))
    assert (tmp_path / "mem").read_bytes() == bytes(guest.view)
    assert data_pages(tmp_path / "mem") == {1, 2, 40}
    assert file.written == [(PAGE, 3 * PAGE), (40 * PAGE, 41 * PAGE)]
    assert file.written_bytes == 3 * PAGE


def test_ranges_lie_one_behind_the_other(tmp_path):
    low, high = ram(3), ram(0)
    layout = Layout([(0, SIZE), (1 << 32, SIZE)])
    assert layout.offset_of((1 << 32) + 5) == SIZE + 5
    with pytest.raises(ValueError, match="in no range"):
        layout.offset_of(SIZE)
    sources = [Source(low.view, low.address, 0), Source(high.view, high.address, SIZE)]
    save(tmp_path / "mem", *sources, size=layout.size)
    assert (tmp_path / "mem").read_bytes() == bytes(low.view) + bytes(high.view)


def test_memory_that_no_source_has_is_a_hole(tmp_path):
    save(tmp_path / "mem", source_of(ram(1)), size=2 * SIZE)
    assert os.path.getsize(tmp_path / "mem") == 2 * SIZE
    assert data_pages(tmp_path / "mem") == {1}


@pytest.mark.parametrize("tell", [True, False])
def test_memory_restored_from_a_file_is_saved_whole(tmp_path, monkeypatch, tell):
    save(tmp_path / "base", source_of(ram(1, 2, 3)))
    fd = memory.open_file(str(tmp_path / "base"), LAYOUT)
    guest = memory.map_range(fd, LAYOUT.ranges[0])
    guest.view[2 * PAGE : 3 * PAGE] = bytes(PAGE)  # becomes zero
    guest.view[9 * PAGE] = 7
    if not tell:
        monkeypatch.setattr(pages, "_find", lambda *_, **__: None)
    save(tmp_path / "mem", source_of(guest, origin="private", base=(fd, 0)))
    assert (tmp_path / "mem").read_bytes() == bytes(guest.view)
    assert data_pages(tmp_path / "mem") == {1, 3, 9}
    os.close(fd)


def test_shared_memory_and_served_memory_are_saved_whole(tmp_path):
    shared = mapping.memfd(SIZE)
    shared.view[5 * PAGE] = 1
    save(tmp_path / "shared", source_of(shared, origin="shared", base=shared.file))
    assert (tmp_path / "shared").read_bytes() == bytes(shared.view)
    assert data_pages(tmp_path / "shared") == {5}
    served = ram(6)
    save(tmp_path / "served", source_of(served, origin="served"))
    assert data_pages(tmp_path / "served") == {6}


def test_a_file_may_be_replaced_by_the_guest_that_was_restored_from_it(tmp_path):
    save(tmp_path / "mem", source_of(ram(1)))
    fd = memory.open_file(str(tmp_path / "mem"), LAYOUT)
    guest = memory.map_range(fd, LAYOUT.ranges[0])
    guest.view[2 * PAGE] = 9
    expected = bytes(guest.view)
    save(tmp_path / "mem", source_of(guest, origin="private", base=(fd, 0)))
    assert (tmp_path / "mem").read_bytes() == expected == bytes(guest.view)
    os.close(fd)


@given(page_sets, page_sets)
def test_base_and_diff_merged_are_the_guest(tmp_path_factory, first, second):
    folder = tmp_path_factory.mktemp("diff")
    guest = ram(*first)
    save(folder / "base", source_of(guest))
    for number in second:  # some become zero, some get something
        value = 0 if number in first else 200
        guest.view[number * PAGE : number * PAGE + PAGE] = bytes([value]) * PAGE
    dirty = [pages.of_numbers(second)]
    diff = memory.prepare_diff(str(folder / "diff"), SIZE, [source_of(guest)], dirty)
    diff.publish()
    assert diff.written == dirty[0]
    assert os.path.getsize(folder / "diff") == SIZE
    assert data_pages(folder / "diff") == second
    memory.prepare_diff(str(folder / "base"), SIZE, [source_of(guest)], dirty).publish()
    assert (folder / "base").read_bytes() == bytes(guest.view)


def test_a_diff_without_tracking_has_what_changed_since_the_restore(tmp_path):
    save(tmp_path / "base", source_of(ram(1, 2, 3)))
    fd = memory.open_file(str(tmp_path / "base"), LAYOUT)
    guest = memory.map_range(fd, LAYOUT.ranges[0])
    assert guest.view[PAGE + 1] == 2  # read only
    guest.view[2 * PAGE] = 5
    source = source_of(guest, origin="private", base=(fd, 0))
    memory.prepare_diff(str(tmp_path / "diff"), SIZE, [source], None).publish()
    assert data_pages(tmp_path / "diff") == {2}
    os.close(fd)


def test_a_diff_without_tracking_of_a_guest_never_restored_has_what_it_touched(tmp_path):
    guest = ram(1, 60)
    memory.prepare_diff(str(tmp_path / "diff"), SIZE, [source_of(guest)], None).publish()
    assert data_pages(tmp_path / "diff") == {1, 60}


def full_disk(monkeypatch, after_bytes):
    left = [after_bytes]
    real = os.pwrite

    def pwrite(fd, data, offset):
        left[0] -= len(data)
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)


@pytest.mark.parametrize("after_bytes", [0, PAGE, 5 * PAGE])
def test_a_full_disk_leaves_nothing_and_what_was_there_stays(tmp_path, monkeypatch, after_bytes):
    (tmp_path / "mem").write_bytes(b"old")
    full_disk(monkeypatch, after_bytes)
    with pytest.raises(HostError, match="No space left on device"):
        save(tmp_path / "mem", source_of(ram(*range(0, 60, 2))))
    assert os.listdir(tmp_path) == ["mem"]
    assert (tmp_path / "mem").read_bytes() == b"old"


def test_a_full_disk_leaves_the_base_of_a_diff_as_it_was(tmp_path, monkeypatch):
    guest = ram(1)
    save(tmp_path / "base", source_of(guest))
    before = (tmp_path / "base").read_bytes()
    guest.view[:] = b"x" * SIZE

    def fallocate(fd, offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    with pytest.raises(HostError, match="No space left on device"):
        memory.prepare_diff(str(tmp_path / "base"), SIZE, [source_of(guest)], [[(0, SIZE)]])
    assert (tmp_path / "base").read_bytes() == before


def test_memory_files_of_another_length_are_refused(tmp_path):
    path = tmp_path / "mem"
    path.write_bytes(bytes(SIZE - PAGE))
    with pytest.raises(SnapshotError, match=f"has {SIZE - PAGE} bytes; the state says {SIZE}"):
        memory.open_file(str(path), LAYOUT)
    path.write_bytes(state.MAGIC + bytes(100))
    with pytest.raises(SnapshotError, match="it is a state file"):
        memory.open_file(str(path), LAYOUT)
    with pytest.raises(HostError) as caught:
        memory.open_file(str(tmp_path / "none"), LAYOUT)
    assert str(caught.value) == (
        "Failed to load guest memory: Error creating guest memory from file: "
        "Failed to load guest memory: No such file or directory (os error 2)"
    )


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 64])
def test_a_file_is_known_by_some_of_its_pages(tmp_path, count):
    file = memory.prepare_full(str(tmp_path / "mem"), SIZE, [source_of(ram(*range(count)))])
    layout = Layout([(0, SIZE)])
    layout.samples = file.samples()
    file.publish()
    offsets = [offset for offset, _ in layout.samples]
    assert len(offsets) == len(set(offsets)) == min(count, memory.SAMPLES)
    os.close(memory.open_file(str(tmp_path / "mem"), layout))
    for offset in offsets:
        with open(tmp_path / "mem", "r+b") as changed:
            changed.seek(offset + 4000)
            changed.write(b"\xee")
        with pytest.raises(SnapshotError, match=f"the page at {offset:#x} is not the one that was"):
            memory.open_file(str(tmp_path / "mem"), layout)
        with open(tmp_path / "mem", "r+b") as changed:
            changed.seek(offset + 4000)
            changed.write(b"\0")


def test_a_diff_is_known_before_and_after_it_was_merged(tmp_path):
    guest = ram(1, 2, 3)
    save(tmp_path / "base", source_of(guest))
    guest.view[2 * PAGE] = 9
    dirty = [[(2 * PAGE, 3 * PAGE)]]
    layout = Layout([(0, SIZE)], snapshot_type="Diff")
    diff = memory.prepare_diff(str(tmp_path / "diff"), SIZE, [source_of(guest)], dirty)
    layout.samples = diff.samples()
    diff.publish()
    os.close(memory.open_file(str(tmp_path / "diff"), layout))
    with pytest.raises(SnapshotError, match="a diff that was not merged"):
        memory.open_file(str(tmp_path / "base"), layout)
    memory.prepare_diff(str(tmp_path / "base"), SIZE, [source_of(guest)], dirty).publish()
    os.close(memory.open_file(str(tmp_path / "base"), layout))


def as_state(value):
    sections = {"config": {}, "memory": value, "vm": {}, "vcpu.0": {}, "devices": {}}
    return state.parse(state.encode("machine", sections), "snap")


def test_a_layout_comes_back_from_a_state_file():
    layout = Layout([(0, SIZE), (1 << 32, PAGE)], huge_pages="2M", snapshot_type="Diff")
    assert Layout.of(as_state(layout.to_json())).written is None
    layout.written = [(0, PAGE), (SIZE, SIZE + PAGE)]
    layout.samples = [(PAGE, 2**32 - 1)]
    found = Layout.of(as_state(layout.to_json()))
    assert found.samples == layout.samples
    assert [(r.gpa, r.size, r.offset) for r in found.ranges] == [
        (0, SIZE, 0),
        (1 << 32, PAGE, SIZE),
    ]
    assert (found.huge_pages, found.snapshot_type, found.size) == ("2M", "Diff", SIZE + PAGE)
    assert found.written == layout.written


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ranges": []}, "1 to 1024"),
        ({"ranges": [[0, SIZE], [PAGE, PAGE]]}, "overlaps another"),
        ({"ranges": [[1, SIZE]]}, "whole pages"),
        ({"ranges": [[0, 0]]}, "whole pages"),
        ({"ranges": [[0, 1 << 60]]}, "whole pages"),
        ({"ranges": [["a", 1]]}, "two numbers"),
        ({"size": SIZE + 1}, "the ranges have"),
        ({"huge_pages": "1G"}, "huge_pages: '1G'; None, Transparent, 2M are allowed"),
        ({"written": b"1"}, "pairs of 8 bytes"),
        ({"written": bytes(16)}, "0x0 to 0x0; whole pages in order below 0x40000"),
        ({"samples": [[SIZE, 1]]}, f"samples[0]: [{SIZE}, 1]; a page's offset below 0x40000"),
        ({"samples": [[1, 1]]}, "a page's offset"),
        ({"samples": [1]}, "a page's offset"),
        ({"samples": [[0, 0]] * 65}, "at most 64"),
        ({"snapshot_type": None}, "snapshot_type: None; Full, Diff are allowed"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(change, words):
    with pytest.raises(SnapshotError) as caught:
        Layout.of(as_state(LAYOUT.to_json() | change))
    assert words in str(caught.value)
    assert str(caught.value).startswith("snap: section memory: ")


def test_a_layout_without_a_field_is_refused():
    value = LAYOUT.to_json()
    del value["huge_pages"]
    with pytest.raises(SnapshotError, match="no field 'huge_pages'"):
        Layout.of(as_state(value))
    with pytest.raises(SnapshotError, match="section memory"):
        Layout.of(as_state([]))
