"""The MSRs of a start, and the list of a snapshot."""

from hypothesis import given
from hypothesis import strategies as st

from pyrovm.arch.x86 import msr


def test_all_memory_is_write_back_and_string_moves_are_fast():
    assert msr.BOOT_MSRS[0x2FF] == 0x806
    assert msr.BOOT_MSRS[0x1A0] == 1


def test_what_the_boot_protocol_wants_at_zero_is_zero():
    zero = {0x174, 0x175, 0x176, 0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084, 0xC0000102, 0x10}
    assert {index for index, value in msr.BOOT_MSRS.items() if value == 0} == zero


indices = st.lists(st.integers(0, 2**32 - 1) | st.sampled_from([0x10, 0x6E0, 0x40000020, 0x2FF]))


@given(indices, indices)
def test_the_tsc_is_set_first_its_deadline_last_and_nothing_twice(listed, templated):
    saved = msr.saved_msrs(listed, templated)
    assert len(set(saved)) == len(saved)
    if msr.IA32_TSC in saved:
        assert saved[0] == msr.IA32_TSC
    if msr.IA32_TSC_DEADLINE in saved:
        assert saved[-1] == msr.IA32_TSC_DEADLINE


@given(indices, indices)
def test_everything_known_is_saved_but_hyper_v(listed, templated):
    saved = set(msr.saved_msrs(listed, templated))
    hyperv = {index for index in saved if 0x40000000 <= index <= 0x400001FF}
    assert not hyperv
    wanted = {i for i in (*listed, *templated) if not 0x40000000 <= i <= 0x400001FF}
    assert wanted <= saved


def test_memory_types_are_saved_although_kvm_does_not_list_them():
    saved = msr.saved_msrs([])
    assert {0x200, 0x20F, 0x250, 0x258, 0x259, 0x268, 0x26F, 0x2FF} <= set(saved)
    assert 0x277 not in saved  # PAT is in KVM's list
