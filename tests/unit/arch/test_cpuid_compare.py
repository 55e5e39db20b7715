"""What a host has to have for a guest that was saved elsewhere."""

import pytest

from pyrovm.arch.x86.cpuid import topology as topo
from pyrovm.arch.x86.cpuid.compare import missing_features
from pyrovm.arch.x86.cpuid.normalize import normalize
from tests.unit.arch.hosts import AMD, INTEL, table


@pytest.mark.parametrize("rows", [INTEL, AMD])
def test_a_guest_fits_the_host_that_it_was_made_on(rows):
    host = table(rows)
    guest = host.copy()
    normalize(guest, topo.Topology(2, smt=False), tsc_khz=2_000_000)
    assert missing_features(guest, host) == []


def test_a_feature_that_is_gone_is_named_as_proc_cpuinfo_names_it():
    guest, host = table(INTEL), table(INTEL)
    host.get(7).ebx &= ~(1 << 5 | 1 << 16)
    host.get(1).ecx &= ~(1 << 12)
    host.get(0x80000001).edx &= ~(1 << 26)
    assert missing_features(guest, host) == ["fma", "avx2", "avx512f", "pdpe1gb"]
    assert missing_features(host, guest) == [], "more does no harm"


def test_a_leaf_that_is_gone_takes_all_its_features_along():
    guest, host = table(INTEL), table(INTEL)
    host.remove(0xD, 1)
    assert missing_features(guest, host) == ["xsaveopt", "xsavec", "xgetbv1", "xsaves"]


def test_a_bit_without_a_name_is_told_by_its_place():
    guest, host = table(AMD), table(AMD)
    guest.get(7).ecx |= 1 << 26
    assert missing_features(guest, host) == ["CPUID 0x7.0 ecx:26"]


def test_what_follows_the_guests_own_state_is_no_feature():
    guest, host = table(AMD), table(AMD)
    guest.get(1).ecx |= 1 << 27 | 1 << 31 | 1 << 24  # OSXSAVE, HYPERVISOR, TSC_DEADLINE
    guest.get(7).ecx |= 1 << 4  # OSPKE
    assert missing_features(guest, host) == []
