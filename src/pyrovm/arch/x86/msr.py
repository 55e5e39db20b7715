"""Model-specific registers: what a guest starts with and what a snapshot keeps.

Numbers and names as in Intel SDM vol. 4 and Linux's msr-index.h.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

IA32_TSC = 0x10
IA32_SYSENTER_CS, IA32_SYSENTER_ESP, IA32_SYSENTER_EIP = 0x174, 0x175, 0x176
IA32_MISC_ENABLE = 0x1A0
MTRR_PHYS_BASE0 = 0x200  # base and mask of eight variable ranges
MTRR_FIX = (0x250, 0x258, 0x259, *range(0x268, 0x270))
MTRR_DEF_TYPE = 0x2FF
IA32_TSC_DEADLINE = 0x6E0
STAR, LSTAR, CSTAR, SYSCALL_MASK = 0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084
KERNEL_GS_BASE = 0xC0000102

HYPERV_FIRST, HYPERV_LAST = 0x40000000, 0x400001FF

MISC_ENABLE_FAST_STRING = 1
MTRR_ENABLE_WRITE_BACK = 1 << 11 | 6

# Without the default memory type Linux would find all memory uncached and MTRRs off; the rest is
# what the boot protocol wants at 0 and KVM mostly has there.
BOOT_MSRS = {
    IA32_SYSENTER_CS: 0,
    IA32_SYSENTER_ESP: 0,
    IA32_SYSENTER_EIP: 0,
    STAR: 0,
    CSTAR: 0,
    KERNEL_GS_BASE: 0,
    SYSCALL_MASK: 0,
    LSTAR: 0,
    IA32_TSC: 0,
    IA32_MISC_ENABLE: MISC_ENABLE_FAST_STRING,
    MTRR_DEF_TYPE: MTRR_ENABLE_WRITE_BACK,
}

# Not in KVM_GET_MSR_INDEX_LIST, yet state that a guest may have changed.
_UNLISTED = (*range(MTRR_PHYS_BASE0, MTRR_PHYS_BASE0 + 16), *MTRR_FIX, MTRR_DEF_TYPE)


def saved_msrs(index_list: Iterable[int], templated: Iterable[int] = ()) -> list[int]:
    """The MSRs of a snapshot, in the order in which they are to be set again.

    ``index_list`` is KVM's own list, ``templated`` what a CPU template changed.  Hyper-V's MSRs are
    left out: no guest of ours is told of them, and some refuse to be written.  The TSC comes first,
    since others are relative to it; the TSC deadline comes last and must be set once more after
    the local APIC, whose state decides whether KVM keeps it.
    """
    wanted = dict.fromkeys((*index_list, *_UNLISTED, *templated))
    last = [IA32_TSC_DEADLINE] if IA32_TSC_DEADLINE in wanted else []
    first = [IA32_TSC] if IA32_TSC in wanted else []
    return (
        first
        + [
            index
            for index in wanted
            if index not in (IA32_TSC, IA32_TSC_DEADLINE)
            and not HYPERV_FIRST <= index <= HYPERV_LAST
        ]
        + last
    )
