"""What the kernel tells of pages, by either of its ways, and sums with ranges."""

import errno
import mmap
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.host import mapping
from pyrovm.snapshot import pages

PAGE = 4096
page_sets = st.sets(st.integers(0, 40))


def numbers(ranges):
    found = [n for start, end in ranges for n in range(start // PAGE, end // PAGE)]
    assert len(found) == len(set(found))
    return set(found)


@pytest.fixture(params=["PAGEMAP_SCAN", "pagemap"])
def way(request, monkeypatch):
    """A kernel that has the ioctl, and one from before 6.7."""
    if request.param == "pagemap":

        def ioctl(*_):
            raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")

        monkeypatch.setattr(pages.fcntl, "ioctl", ioctl)


@pytest.mark.usefixtures("way")
def test_touched_pages_are_those_written(monkeypatch):
    monkeypatch.setattr(pages, "_REGIONS", 4)  # several calls
    guest = mapping.anonymous(4 << 20)
    written = {0, 1, 2, 7, 9, 11, 13, 15, 17, 19, 1023}
    for number in written:
        guest.view[number * PAGE] = 1
    assert numbers(pages.touched(guest.address, guest.size)) == written


@pytest.mark.usefixtures("way")
def test_changed_pages_of_a_private_mapping_are_not_the_files(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * (16 * PAGE))
    with open(path, "rb") as file:
        guest = mapping.file(file.fileno(), 16 * PAGE, shared=False)
    assert bytes(guest.view[:1]) == b"x"
    guest.view[5 * PAGE] = 1
    assert numbers(pages.changed(guest.address, guest.size)) == {5}
    assert 0 in numbers(pages.touched(guest.address, guest.size))


def test_huge_pages_are_found():
    guest = mapping.anonymous(4 << 20, huge_pages="Transparent")
    guest.view[(2 << 20) + 5] = 1
    found = numbers(pages.touched(guest.address, guest.size))
    assert 512 in found
    assert 0 not in found


def test_without_proc_nobody_knows(monkeypatch):
    def refuse(*_):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(pages.os, "open", refuse)
    assert pages.touched(4096, 4096) is None


def test_data_of_a_file_from_an_offset_on(tmp_path):
    with open(tmp_path / "file", "wb+") as file:
        file.truncate(64 * PAGE)
        for number in (0, 8, 9, 63):
            os.pwrite(file.fileno(), b"x", number * PAGE)
        assert numbers(pages.data_of(file.fileno(), 0, 64 * PAGE)) == {0, 8, 9, 63}
        assert numbers(pages.data_of(file.fileno(), 9 * PAGE, 50 * PAGE)) == {0}
        assert pages.data_of(file.fileno(), 10 * PAGE, 20 * PAGE) == []


def test_what_has_no_holes_is_all_data():
    read, write = os.pipe()
    with pytest.raises(OSError, match="Illegal seek"):
        pages.data_of(read, 0, PAGE)
    os.close(read)
    os.close(write)


@given(page_sets, page_sets)
def test_ranges_are_sets_of_pages(first, second):
    a, b = pages.of_numbers(first), pages.of_numbers(second)
    assert numbers(a) == first
    assert numbers(pages.union(a, b)) == first | second
    assert numbers(pages.intersection(a, b)) == first & second


@given(page_sets, st.integers(1, 41))
def test_zero_pages_are_left_out(written, count):
    with mmap.mmap(-1, 41 * PAGE) as memory:
        for number in written:
            memory[number * PAGE + PAGE - 1] = 1
        view = memoryview(memory)
        found = list(pages.without_zeros(view, [(0, count * PAGE)]))
        view.release()
    assert numbers(found) == {n for n in written if n < count}


@given(st.binary(max_size=60).map(lambda data: bytes(b & 1 for b in data)))
def test_runs_cover_the_ones(flags):
    assert {n for start, end in pages.runs(flags) for n in range(start, end)} == {
        n for n, flag in enumerate(flags) if flag
    }
