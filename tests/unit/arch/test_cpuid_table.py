"""A CPUID table: lookups by leaf and subleaf, changes in place, and a form to save."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.arch.x86.cpuid.table import MAX_ENTRIES, CpuidTable
from tests.unit.arch import hosts


def test_entries_are_copies_of_what_was_given():
    source = hosts.table(hosts.INTEL)
    copy = source.copy()
    copy.obtain(1).eax = 0
    assert source.get(1).eax == 0x606A6


def test_a_missing_leaf_is_made_of_zeros_when_it_is_needed():
    table = CpuidTable([])
    assert table.get(0xB, 1) is None
    entry = table.obtain(0xB, 1, indexed=True)
    assert (entry.function, entry.index, entry.flags, entry.eax) == (0xB, 1, 1, 0)
    assert table.get(0xB, 1) is entry


def test_subleaves_come_in_order_and_go_together():
    table = hosts.table(hosts.INTEL)
    assert [e.index for e in table.subleaves(0xD)] == [0, 1, 2, 5, 6, 7, 9, 11, 12]
    table.remove(0xD, 5)
    assert table.get(0xD, 5) is None
    assert table.get(0xD, 6) is not None
    table.remove(0xD)
    assert table.subleaves(0xD) == []


@pytest.mark.parametrize(
    ("rows", "vendor", "model"),
    [(hosts.INTEL, "GenuineIntel", (6, 0x6A, 6)), (hosts.AMD, "AuthenticAMD", (25, 1, 1))],
)
def test_vendor_and_model_are_read_as_the_manuals_say(rows, vendor, model):
    table = hosts.table(rows)
    assert table.vendor == vendor
    assert table.model == model


def test_a_table_without_leaf_0_has_no_vendor():
    assert CpuidTable([]).vendor == ""
    assert CpuidTable([]).model == (0, 0, 0)


def test_text_is_spread_over_three_leaves():
    table = CpuidTable([])
    table.set_text(0x80000002, "AMD EPYC")
    raw = b"".join(
        v.to_bytes(4, "little")
        for leaf in range(0x80000002, 0x80000005)
        for v in (
            table.get(leaf).eax,
            table.get(leaf).ebx,
            table.get(leaf).ecx,
            table.get(leaf).edx,
        )
    )
    assert raw == b"AMD EPYC".ljust(48, b"\0")


def test_a_saved_table_is_the_same_when_it_comes_back():
    table = hosts.table(hosts.AMD)
    assert CpuidTable.from_state(table.state()).entries == table.entries


@given(st.binary(max_size=200))
def test_a_damaged_state_is_refused_or_taken_whole(data):
    if len(data) % 40:
        with pytest.raises(ValueError, match="no CPUID table"):
            CpuidTable.from_state(data)
    else:
        assert len(CpuidTable.from_state(data).entries) <= len(data) // 40


def test_more_entries_than_kvm_takes_are_refused():
    with pytest.raises(ValueError, match="256"):
        CpuidTable.from_state(bytes(40 * (MAX_ENTRIES + 1)))
