"""The static templates: for whom they are, and the features they show and hide."""

import pytest

from pyrovm.arch.x86 import templates_static as static
from pyrovm.arch.x86.cpuid.normalize import normalize
from pyrovm.arch.x86.cpuid.table import CpuidTable
from pyrovm.arch.x86.cpuid.topology import Topology
from pyrovm.arch.x86.cpuid.xsave import offered_xcr0
from pyrovm.arch.x86.template import TemplateError, apply_cpuid, apply_msrs
from tests.unit.arch import hosts

SIGNATURES = {  # leaf 1 EAX
    "skylake": 0x00050654,
    "cascade lake": 0x00050657,
    "ice lake": 0x000606A6,
    "sapphire rapids": 0x000806F8,
    "cascade lake, first stepping": 0x00050656,
}
PERMITTED = {
    "C3": {"skylake", "cascade lake", "ice lake"},
    "T2": {"skylake", "cascade lake", "ice lake"},
    "T2S": {"skylake", "cascade lake"},
    "T2CL": {"cascade lake", "ice lake"},
}
MILAN, ROME = 0x00A00F11, 0x00830F10

# (leaf, subleaf, register, bit), as Intel and AMD number them
AVX512F, AVX2, ERMS, RTM, SHA = ((7, 0, "ebx", bit) for bit in (16, 5, 9, 11, 29))
PKU, UMIP, RDPID = ((7, 0, "ecx", bit) for bit in (3, 2, 22))
VMX, FMA, MOVBE, AES = ((1, 0, "ecx", bit) for bit in (5, 12, 22, 25))
MCE, MTRR = ((1, 0, "edx", bit) for bit in (7, 12))
GIB_PAGES, FXSR = ((0x80000001, 0, "edx", bit) for bit in (26, 24))
LZCNT, SSE4A, PREFETCHW = ((0x80000001, 0, "ecx", bit) for bit in (5, 6, 8))
IBRS_PREFERRED, CLZERO = ((0x80000008, 0, "ebx", bit) for bit in (18, 0))
XSAVEC = (0xD, 1, "eax", 1)


def host(signature, rows=hosts.INTEL):
    table = hosts.table(rows)
    table.get(1).eax = signature
    return table


def everything(rows):
    """A host whose every feature bit of interest is 1."""
    table = hosts.table(rows)
    for leaf, subleaf in ((1, 0), (7, 0), (0xD, 0), (0xD, 1), (0x80000001, 0), (0x80000008, 0)):
        entry = table.get(leaf, subleaf)
        entry.eax = entry.ebx = entry.ecx = entry.edx = 0xFFFFFFFF
    return table


def applied(name, table):
    signature = MILAN if name == "T2A" else SIGNATURES["cascade lake"]
    chosen = static.static_template(
        name, host(signature, hosts.AMD if name == "T2A" else hosts.INTEL)
    )
    apply_cpuid(table, chosen.cpuid_modifiers)
    return table


def has(table, feature):
    leaf, subleaf, register, bit = feature
    return bool(getattr(table.get(leaf, subleaf), register) >> bit & 1)


@pytest.mark.parametrize("name", PERMITTED)
@pytest.mark.parametrize("cpu", SIGNATURES)
def test_an_intel_template_is_for_the_models_it_was_made_for(name, cpu):
    if cpu in PERMITTED[name]:
        assert static.static_template(name, host(SIGNATURES[cpu])).cpuid_modifiers
    else:
        with pytest.raises(
            TemplateError,
            match=r"^Failed to get CPU template: The current CPU model is not permitted to apply",
        ):
            static.static_template(name, host(SIGNATURES[cpu]))


def test_the_amd_template_is_for_milan_alone():
    assert static.static_template("T2A", host(MILAN, hosts.AMD)).cpuid_modifiers
    with pytest.raises(TemplateError, match="not permitted"):
        static.static_template("T2A", host(ROME, hosts.AMD))


@pytest.mark.parametrize(
    ("name", "table"),
    [
        *((name, hosts.table(hosts.AMD)) for name in PERMITTED),
        ("T2A", hosts.table(hosts.INTEL)),
        ("T2", CpuidTable([])),
    ],
)
def test_the_other_vendor_is_refused_in_the_words_that_clients_look_for(name, table):
    with pytest.raises(TemplateError, match="CPU vendor mismatched between actual CPU and CPU"):
        static.static_template(name, table)


@pytest.mark.parametrize("name", ["None", "V1N1", "t2"])
def test_a_name_that_is_no_template_is_refused(name):
    with pytest.raises(TemplateError, match=f"Invalid static CPU template: {name}"):
        static.static_template(name, hosts.table(hosts.INTEL))


@pytest.mark.parametrize("name", ["T2", "T2S", "T2CL", "T2A"])
def test_the_t2_family_looks_like_haswell(name):
    table = applied(name, everything(hosts.AMD if name == "T2A" else hosts.INTEL))
    assert table.get(1).eax & 0x0FFF3FFF == 0x306F2
    assert all(has(table, f) for f in (AVX2, ERMS, FMA, MOVBE, AES, MCE, MTRR, LZCNT))
    hidden = (AVX512F, RTM, SHA, PKU, UMIP, RDPID, VMX, GIB_PAGES, PREFETCHW, XSAVEC)
    assert not any(has(table, f) for f in hidden)


def test_c3_looks_like_ivy_bridge():
    table = applied("C3", everything(hosts.INTEL))
    assert table.get(1).eax & 0x0FFF3FFF == 0x306E4
    assert not any(has(table, f) for f in (AVX2, FMA, MOVBE, LZCNT, PREFETCHW, GIB_PAGES))
    assert all(has(table, f) for f in (AES, MCE, MTRR))


def test_t2cl_and_t2a_agree_on_instruction_sets():
    intel, amd = applied("T2CL", everything(hosts.INTEL)), applied("T2A", everything(hosts.AMD))
    for leaf, register in ((1, "ecx"), (7, "ebx"), (7, "ecx"), (0x80000001, "ecx")):
        assert getattr(intel.get(leaf), register) == getattr(amd.get(leaf), register)
    assert not has(intel, SSE4A)
    assert not has(intel, FXSR)


def test_what_amd_spells_out_is_forced_on_and_off():
    nothing = hosts.table(hosts.AMD)
    nothing.get(0x80000008).ebx = 0
    assert has(applied("T2A", nothing), IBRS_PREFERRED)
    assert not has(applied("T2A", everything(hosts.AMD)), CLZERO)


def test_arch_capabilities_are_the_weakest_under_t2s_and_filtered_under_t2cl():
    cascade = host(SIGNATURES["cascade lake"])
    t2s = static.static_template("T2S", cascade).msr_modifiers
    assert apply_msrs({0x10A: 0}, t2s) == apply_msrs({0x10A: 2**64 - 1}, t2s) == {0x10A: 0xC0A0C4C}
    t2cl = static.static_template("T2CL", cascade).msr_modifiers
    assert apply_msrs({0x10A: 2**64 - 1}, t2cl) == {0x10A: 0x1D0AE1FF}
    assert apply_msrs({0x10A: 0}, t2cl) == {0x10A: 0}


@pytest.mark.parametrize("name", [*PERMITTED, "T2A"])
def test_after_normalization_only_avx_state_is_left(name):
    rows = hosts.AMD if name == "T2A" else hosts.INTEL
    table = applied(name, hosts.table(rows))
    normalize(table, Topology(2, smt=True), tsc_khz=0)
    assert offered_xcr0(table) == 7
    assert table.get(0xD).ecx == 832
    assert [entry.index for entry in table.subleaves(0xD)] == [0, 1, 2]


def test_c3_warns_where_the_cpu_cannot_tell_of_a_weakness():
    assert "MMIO stale data" in static.warning("C3", host(SIGNATURES["skylake"]))
    assert static.warning("C3", host(SIGNATURES["ice lake"])) == ""
    assert static.warning("T2", host(SIGNATURES["skylake"])) == ""
