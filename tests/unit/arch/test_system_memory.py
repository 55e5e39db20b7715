"""The pool of the first MiB: from below and from above, never twice the same byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.arch.x86 import layout
from pyrovm.arch.x86.system_memory import SystemMemory

requests = st.lists(
    st.tuples(st.booleans(), st.integers(1, 0x8000), st.sampled_from([1, 8, 16, 0x1000])),
    max_size=40,
)


@given(requests)
def test_pieces_are_aligned_inside_the_pool_and_apart(wanted):
    pool, pieces = SystemMemory(), []
    for low, size, align in wanted:
        try:
            gpa = (pool.first_fit if low else pool.last_fit)(size, align)
        except ValueError:
            continue
        assert gpa % align == 0
        assert gpa >= layout.SYSTEM_MEMORY
        assert gpa + size <= layout.SYSTEM_MEMORY_END
        assert all(gpa + size <= other or end <= gpa for other, end in pieces)
        pieces.append((gpa, gpa + size))


def test_the_first_piece_is_where_guests_look_for_the_mp_table():
    assert SystemMemory().first_fit(100) == 0x9FC00


def test_the_generation_id_and_the_clock_page_lie_as_on_firecracker():
    pool = SystemMemory()
    assert pool.last_fit(16, 8) == 0xDFFF0
    assert pool.last_fit(0x1000, 0x1000) == 0xDE000


def test_holes_left_by_alignment_are_filled():
    pool = SystemMemory(0, 0x3000)
    assert pool.first_fit(0x10) == 0
    assert pool.first_fit(0x1000, 0x1000) == 0x1000
    assert pool.first_fit(0x100) == 0x10


def test_a_full_pool_says_so():
    pool = SystemMemory(0, 0x100)
    pool.first_fit(0x100)
    with pytest.raises(ValueError, match="no room for 1 bytes"):
        pool.first_fit(1)
    with pytest.raises(ValueError, match="no room for 1 bytes"):
        pool.last_fit(1)
