"""Leaf 0xD agrees with itself after a template took state components away."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.arch.x86.cpuid import xsave
from pyrovm.arch.x86.cpuid.table import CpuidTable
from tests.unit.arch import hosts


@pytest.mark.parametrize("rows", [hosts.INTEL, hosts.AMD])
def test_what_kvm_offers_is_consistent_already(rows):
    table = hosts.table(rows)
    xsave.make_consistent(table)
    assert table.entries == hosts.table(rows).entries


def test_components_that_a_template_hides_go_with_their_sizes():
    table = hosts.table(hosts.INTEL)
    table.get(0xD).eax = 0x7  # no AVX-512, no PKRU
    table.get(0xD, 1).eax = 0x1  # no XSAVEC, no XSAVES
    xsave.make_consistent(table)
    assert [e.index for e in table.subleaves(0xD)] == [0, 1, 2]
    assert table.get(0xD).ecx == 0x240 + 0x100
    variants = table.get(0xD, 1)
    assert (variants.ebx, variants.ecx, variants.edx) == (0, 0, 0)


def test_supervisor_states_stay_with_xsaves():
    table = hosts.table(hosts.AMD)
    table.get(0xD).eax = 0x3
    xsave.make_consistent(table)
    assert [e.index for e in table.subleaves(0xD)] == [0, 1, 11, 12]
    assert table.get(0xD).ecx == 576


def test_a_cpu_without_the_leaf_stays_without():
    table = CpuidTable([])
    xsave.make_consistent(table)
    assert table.entries == []
    assert xsave.offered_xcr0(table) == xsave.X87


@given(st.integers(0, 2**64 - 1))
def test_the_offered_xcr0_is_one_that_xsetbv_takes(offered):
    table = hosts.table(hosts.INTEL)
    root = table.get(0xD)
    root.eax, root.edx = offered & 0xFFFFFFFF, offered >> 32
    value = xsave.offered_xcr0(table)
    assert value & xsave.X87  # Intel SDM vol. 2, XSETBV: x87 always, AVX not without SSE,
    assert value & ~(offered | xsave.X87) == 0
    assert not value & xsave.AVX or value & xsave.SSE
    for group in (0x18, 0xE0, 0x60000):  # and these all or none, AVX-512 not without AVX
        assert value & group in (0, group)
    assert not value & 0xE0 or value & xsave.AVX


def test_without_xsave_there_is_nothing_to_enable():
    table = hosts.table(hosts.INTEL)
    table.get(1).ecx &= ~(1 << 26)
    assert xsave.offered_xcr0(table) == xsave.X87


def test_the_usual_hosts_offer_all_they_have():
    assert xsave.offered_xcr0(hosts.table(hosts.INTEL)) == 0x2E7
    assert xsave.offered_xcr0(hosts.table(hosts.AMD)) == 0x207
