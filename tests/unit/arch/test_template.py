"""Templates force bits, keep the others, and refuse what the host does not offer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.arch.x86 import template
from pyrovm.arch.x86.template import TemplateError
from pyrovm.config.cpu_template import (
    BitMask,
    CpuidLeafModifier,
    CpuidRegisterModifier,
    CpuTemplate,
    KvmCapability,
    MsrModifier,
)
from tests.unit.arch import hosts

u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)


def leaf(number, subleaf, **registers):
    return CpuidLeafModifier(
        leaf=number,
        subleaf=subleaf,
        flags=0,
        modifiers=[
            CpuidRegisterModifier(register=name, bitmap=BitMask(filter=mask, value=value & mask))
            for name, (mask, value) in registers.items()
        ],
    )


@given(u32, u32, u32)
def test_forced_bits_take_the_value_and_all_others_stay(before, mask, value):
    table = hosts.table(hosts.INTEL)
    table.get(7).ebx = before
    template.apply_cpuid(table, [leaf(7, 0, ebx=(mask, value))])
    after = table.get(7).ebx
    assert after & mask == value & mask
    assert after & ~mask == before & ~mask


def test_other_registers_and_leaves_are_not_touched():
    table = hosts.table(hosts.INTEL)
    template.apply_cpuid(table, [leaf(0xD, 1, eax=(0xFFFFFFFF, 0))])
    changed = [
        (a.function, a.index)
        for a, b in zip(table.entries, hosts.table(hosts.INTEL).entries, strict=True)
        if a != b
    ]
    assert changed == [(0xD, 1)]
    assert table.get(0xD, 1).ebx == 0x988


@pytest.mark.parametrize(("number", "subleaf"), [(0x14, 0), (0xD, 63)])
def test_a_leaf_that_is_not_offered_is_an_error_that_names_it(number, subleaf):
    with pytest.raises(TemplateError, match=f"leaf {number:#x}, subleaf {subleaf:#x}"):
        template.apply_cpuid(hosts.table(hosts.INTEL), [leaf(number, subleaf, eax=(1, 0))])


@given(u64, u64, u64)
def test_an_msr_is_changed_over_what_kvm_has(before, mask, value):
    change = MsrModifier(addr=0x10A, bitmap=BitMask(filter=mask, value=value & mask))
    assert template.apply_msrs({0x10A: before, 0x11: 7}, [change]) == {
        0x10A: before & ~mask | value & mask
    }


def test_two_changes_of_one_msr_add_up():
    changes = [
        MsrModifier(addr=0x10A, bitmap=BitMask(filter=0x1, value=0x1)),
        MsrModifier(addr=0x10A, bitmap=BitMask(filter=0x2, value=0x0)),
    ]
    assert template.apply_msrs({0x10A: 0x6}, changes) == {0x10A: 0x5}


def test_an_unknown_msr_is_an_error_that_names_it():
    change = MsrModifier(addr=0x1234, bitmap=BitMask(filter=1, value=1))
    with pytest.raises(TemplateError, match="0x1234"):
        template.apply_msrs({}, [change])


def test_capabilities_are_required_or_taken_back():
    changes = CpuTemplate(
        kvm_capabilities=[KvmCapability(number=171), KvmCapability(number=56, is_removed=True)]
    )
    assert template.capability_changes(changes) == [(171, True), (56, False)]
