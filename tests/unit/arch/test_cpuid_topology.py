"""Every vCPU count, with and without SMT, tells the same story in every leaf."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.arch.x86.cpuid import topology as topo
from pyrovm.arch.x86.cpuid.normalize import normalize
from tests.unit.arch import hosts

shapes = st.one_of(
    st.tuples(st.integers(1, 32), st.just(False)),
    st.tuples(st.integers(1, 16).map(lambda n: 2 * n), st.just(True)),
    st.just((1, True)),
)


def normalized(rows, vcpu_count, smt):
    table, topology = hosts.table(rows), topo.Topology(vcpu_count, smt=smt)
    normalize(table, topology, tsc_khz=2_900_000)
    return table, topology


@given(shapes)
def test_apic_ids_decompose_into_package_core_and_thread(shape):
    vcpu_count, smt = shape
    topology = topo.Topology(vcpu_count, smt=smt)
    ids = {(i >> topology.package_bits, i >> topology.core_bits) for i in range(vcpu_count)}
    assert {package for package, _ in ids} == {0}
    assert len(ids) == topology.core_count
    assert topology.core_count * topology.threads_per_core == vcpu_count


@given(shapes, st.sampled_from([hosts.INTEL, hosts.AMD]))
def test_leaf_1_counts_the_ids_of_the_package(shape, rows):
    table, topology = normalized(rows, *shape)
    leaf1 = table.get(1)
    count = leaf1.ebx >> 16 & 0xFF
    assert count == topology.addressable
    assert count >= shape[0] > count // 2
    assert bool(leaf1.edx & 1 << 28) == (shape[0] > 1)


@given(shapes, st.sampled_from([(hosts.INTEL, 0xB), (hosts.INTEL, 0x1F), (hosts.AMD, 0xB)]))
def test_the_level_list_names_threads_then_cores_then_ends(shape, host):
    table, topology = normalized(host[0], *shape)
    levels = table.subleaves(host[1])
    assert [e.ecx for e in levels] == [0x100, 0x201, 2]
    assert [e.eax for e in levels] == [topology.core_bits, topology.package_bits, 0]
    assert [e.ebx for e in levels] == [topology.threads_per_core, shape[0], 0]
    assert {e.flags for e in levels} == {1}


def test_amd_gets_no_leaf_1f_that_it_did_not_have():
    table, _ = normalized(hosts.AMD, 4, False)
    assert table.subleaves(0x1F) == []


@given(shapes)
def test_intel_caches_are_shared_by_a_core_or_by_all(shape):
    table, topology = normalized(hosts.INTEL, *shape)
    for entry in table.subleaves(4)[:4]:
        sharing = (entry.eax >> 14 & 0xFFF) + 1
        cores = (entry.eax >> 26) + 1
        last = entry.eax >> 5 & 7 == 3
        assert sharing == (topology.addressable if last else topology.threads_per_core)
        assert cores >= topology.core_count > cores // 2
    assert table.get(4, 4).eax == 0
    assert table.get(4, 0).ebx == 0x02C0003F


@given(shapes)
def test_amd_sizes_and_node_ids_follow_the_counts(shape):
    table, topology = normalized(hosts.AMD, *shape)
    sizes = table.get(0x80000008)
    assert sizes.ecx & 0xFF == shape[0] - 1
    assert sizes.ecx >> 12 & 0xF == topology.package_bits
    assert table.get(0x80000001).ecx & 1 << 22
    assert table.get(0x80000000).eax >= 0x8000001F
    ids = table.get(0x8000001E)
    assert ids.ebx >> 8 & 0xFF == topology.threads_per_core - 1
    assert ids.ecx == 0


def test_amd_caches_are_made_from_the_old_leaves_where_kvm_hides_the_new_one():
    table, _ = normalized(hosts.AMD, 8, True)
    found = [
        (
            e.eax >> 5 & 7,
            e.eax & 0x1F,
            ((e.ebx >> 22) + 1) * ((e.ebx & 0xFFF) + 1) * (e.ecx + 1),
            (e.eax >> 14 & 0xFFF) + 1,
        )
        for e in table.subleaves(0x8000001D)
    ]
    assert found == [
        (1, topo.CACHE_DATA, 32 << 10, 2),
        (1, topo.CACHE_CODE, 32 << 10, 2),
        (2, topo.CACHE_UNIFIED, 512 << 10, 2),
        (3, topo.CACHE_UNIFIED, 128 << 20, 8),
        (0, topo.CACHE_NONE, 1, 1),
    ]


@given(st.lists(st.integers(0, 0xFFFFFFFF), min_size=4, max_size=4))
def test_whatever_the_old_leaves_say_the_new_ones_are_sane(words):
    table = hosts.table(hosts.AMD)
    l1, l2 = table.get(0x80000005), table.get(0x80000006)
    l1.ecx, l1.edx, l2.ecx, l2.edx = words
    normalize(table, topo.Topology(2, smt=False), tsc_khz=0)
    leaves = table.subleaves(0x8000001D)
    assert leaves[-1].eax & 0x1F == 0
    assert all(entry.eax & 0x1F for entry in leaves[:-1])


@pytest.mark.parametrize("rows", [hosts.INTEL, hosts.AMD])
def test_only_the_apic_id_differs_from_vcpu_to_vcpu(rows):
    table, topology = normalized(rows, 8, True)
    topo.set_apic_id(table, topology, 0)
    first = table.copy()
    topo.set_apic_id(table, topology, 5)
    different = {
        (a.function, name)
        for a, b in zip(first.entries, table.entries, strict=True)
        for name in ("eax", "ebx", "ecx", "edx")
        if getattr(a, name) != getattr(b, name)
    }
    expected = {(1, "ebx"), (0xB, "edx")}
    expected |= (
        {(0x1F, "edx")} if rows is hosts.INTEL else {(0x8000001E, "eax"), (0x8000001E, "ebx")}
    )
    assert different == expected
    assert table.get(1).ebx >> 24 == 5
    assert {e.edx for e in table.subleaves(0xB)} == {5}
    if rows is hosts.AMD:
        assert table.get(0x8000001E).eax == 5
        assert table.get(0x8000001E).ebx == 0x102  # two threads in core 2


def test_an_id_is_replaced_not_added():
    table, topology = normalized(hosts.AMD, 32, False)
    for index in (31, 0, 12):
        topo.set_apic_id(table, topology, index)
        assert table.get(1).ebx >> 24 == index
        assert table.get(0x8000001E).ebx & 0xFF == index
