from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.devices.virtio_balloon_pages import (
    MAX_CHAIN_PFNS,
    PAGE_SIZE,
    in_memory,
    mib_to_pages,
    pages,
    parse_pfns,
    whole_pages,
)
from pyrovm.errors import ConfigError, GuestError
from pyrovm.memory.guest_memory import Region
from pyrovm.virtio.queue import Chain


def chain_of(data):
    chain = Chain(0)
    chain.readable = [memoryview(data)]
    chain.readable_size = len(data)
    return chain


def bytes_of(ranges):
    return {page for gpa, size in ranges for page in range(gpa // PAGE_SIZE, (gpa + size) // 4096)}


def test_neighbours_become_one_range_whatever_their_order():
    assert pages([7, 5, 6, 9]) == [(5 * 4096, 3 * 4096), (9 * 4096, 4096)]


def test_no_pages_are_no_ranges():
    assert pages([]) == []


def test_the_last_page_that_has_a_number_is_a_range():
    assert pages([0xFFFF_FFFF]) == [(0xFFFF_FFFF << 12, 4096)]


@given(st.lists(st.integers(0, 300)))
def test_ranges_cover_each_page_once_and_nothing_else(pfns):
    found = pages(pfns)
    assert bytes_of(found) == set(pfns)
    assert all(gpa + size < following for (gpa, size), (following, _) in pairwise(found))


@given(st.lists(st.integers(0, 60)), st.lists(st.integers(1, 5), max_size=6))
def test_only_what_is_in_memory_stays(pfns, cuts):
    regions, at = [], 0
    for index, pages_long in enumerate(cuts):
        if index % 2:
            regions.append(Region(at * 4096, memoryview(bytes(pages_long * 4096))))
        at += pages_long
    there = {p for r in regions for p in range(r.gpa // 4096, r.end // 4096)}
    found = in_memory(pages(pfns), regions)
    assert bytes_of(found) == set(pfns) & there
    assert sum(size for _, size in found) == 4096 * len(set(pfns) & there)


def test_a_range_over_two_regions_and_a_hole_is_split():
    regions = [Region(0, memoryview(bytes(8192))), Region(12288, memoryview(bytes(8192)))]
    assert in_memory([(4096, 4 * 4096)], regions) == [(4096, 4096), (12288, 8192)]


@given(st.integers(0, 1 << 20), st.integers(0, 1 << 20))
def test_whole_pages_are_aligned_and_inside(gpa, size):
    found = whole_pages(gpa, size)
    if found is None:
        assert size < 2 * PAGE_SIZE - 1
    else:
        start, length = found
        assert start % PAGE_SIZE == length % PAGE_SIZE == 0
        assert length > 0
        assert gpa <= start < gpa + PAGE_SIZE
        assert start + length <= gpa + size < start + length + PAGE_SIZE


def test_page_numbers_are_little_endian_words():
    assert parse_pfns(chain_of(b"\1\0\0\0\0\0\1\0")) == (1, 0x10000)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 4 * MAX_CHAIN_PFNS + 4])
def test_a_request_that_is_no_array_of_words_or_too_long_is_refused(size):
    with pytest.raises(GuestError, match=f"{size} bytes"):
        parse_pfns(chain_of(bytes(size)))


def test_mib_that_32_bits_of_pages_cannot_hold_are_refused():
    assert mib_to_pages(0xFF_FFFF) == 0xFFFF_FF00
    with pytest.raises(ConfigError, match="too large"):
        mib_to_pages(0x100_0000)
