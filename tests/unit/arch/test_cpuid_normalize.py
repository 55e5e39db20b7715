"""What every guest's CPUID has, whatever host and template said."""

import pytest

from pyrovm.arch.x86.cpuid import normalize as norm
from pyrovm.arch.x86.cpuid.table import CpuidTable
from pyrovm.arch.x86.cpuid.topology import Topology
from tests.unit.arch import hosts


def normalized(rows, **changes):
    table = hosts.table(rows)
    for key, value in changes.items():
        register, leaf = key.split("_")
        setattr(table.get(int(leaf, 16)), register, value)
    norm.normalize(table, Topology(2, smt=False), tsc_khz=2_899_999)
    return table


@pytest.mark.parametrize("rows", [hosts.INTEL, hosts.AMD])
def test_leaf_1_says_hypervisor_and_deadline_timer_but_no_pdcm(rows):
    ecx = normalized(rows, ecx_1=0xFFFFFFFF).get(1).ecx
    assert ecx == 0xFFFFFFFF & ~norm.LEAF1_ECX_PDCM
    ecx = normalized(rows, ecx_1=0).get(1).ecx
    assert ecx == norm.LEAF1_ECX_HYPERVISOR | norm.LEAF1_ECX_TSC_DEADLINE


@pytest.mark.parametrize("rows", [hosts.INTEL, hosts.AMD])
def test_a_cache_line_is_64_bytes(rows):
    assert normalized(rows, ebx_1=0).get(1).ebx >> 8 & 0xFF == 8


@pytest.mark.parametrize("rows", [hosts.INTEL, hosts.AMD])
def test_vendor_signature_and_kvm_leaves_pass_through(rows):
    before, after = hosts.table(rows), normalized(rows)
    assert after.vendor == before.vendor
    assert after.model == before.model
    for leaf in (0x40000000, 0x40000001, 0x80000006):
        assert after.get(leaf) == before.get(leaf)


def test_intel_has_no_turbo_no_energy_hint_and_no_performance_counters():
    table = normalized(hosts.INTEL)
    assert table.get(6).eax == 0x75
    assert table.get(6).ecx == 1
    counters = table.get(0xA)
    assert (counters.eax, counters.ebx, counters.ecx, counters.edx) == (0, 0, 0, 0)


def test_intel_leaf_7_tells_how_the_x87_unit_behaves_and_hides_waitpkg():
    features = normalized(hosts.INTEL, ecx_7=0xFFFFFFFF, ebx_7=0).get(7)
    assert features.ebx == 1 << 6 | 1 << 13
    assert features.ecx == 0xFFFFFFFF & ~(1 << 5)


def test_amd_has_no_arch_capabilities():
    assert normalized(hosts.AMD, edx_7=0xFFFFFFFF).get(7).edx == 0xFFFFFFFF & ~(1 << 29)


def brand(table):
    raw = b""
    for leaf in range(0x80000002, 0x80000005):
        entry = table.get(leaf)
        raw += b"".join(
            v.to_bytes(4, "little") for v in (entry.eax, entry.ebx, entry.ecx, entry.edx)
        )
    return raw.rstrip(b"\0").decode()


def test_brand_strings_name_a_family_not_a_model():
    assert brand(normalized(hosts.INTEL)) == "Intel(R) Xeon(R) Processor @ 2.90GHz"
    assert brand(normalized(hosts.AMD)) == "AMD EPYC"


def test_without_a_known_frequency_the_brand_string_has_none():
    assert norm.intel_brand(0) == "Intel(R) Xeon(R) Processor"


def test_an_unknown_vendor_still_gets_what_is_common():
    table = CpuidTable([])
    table.obtain(0).eax = 0xD
    norm.normalize(table, Topology(4, smt=True), tsc_khz=0)
    assert table.get(1).ecx & norm.LEAF1_ECX_HYPERVISOR
    assert len(table.subleaves(0xB)) == 3


@pytest.mark.parametrize("rows", [hosts.INTEL, hosts.AMD])
def test_normalizing_twice_changes_nothing_more(rows):
    once = normalized(rows)
    twice = once.copy()
    norm.normalize(twice, Topology(2, smt=False), tsc_khz=2_899_999)
    assert sorted(map(bytes, twice.entries)) == sorted(map(bytes, once.entries))


def test_the_frequency_is_told_where_a_kernel_looks_for_it():
    table = CpuidTable([])
    norm.set_frequency(table, 2_600_000)
    assert table.entries == [], "without KVM's signature nobody would look"
    table.obtain(0x40000000).eax = 0x40000001
    norm.set_frequency(table, 2_600_000)
    assert table.get(0x40000000).eax == 0x40000010
    assert (table.get(0x40000010).eax, table.get(0x40000010).ebx) == (2_600_000, 1_000_000)
    table.get(0x40000000).eax = 0x40000100
    norm.set_frequency(table, 1)
    assert table.get(0x40000000).eax == 0x40000100
