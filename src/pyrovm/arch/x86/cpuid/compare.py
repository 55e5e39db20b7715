"""What a saved guest was promised of its CPU, against what this host can give.

A guest looks at CPUID once, when it boots, and relies on what it found for the rest of its life.
A feature that the host of a restored guest lacks would end in an invalid instruction, sometime.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.arch.x86.cpuid.table import CpuidTable

# Register of a leaf -> the names that /proc/cpuinfo gives its bits, from bit 0 on; "." is a bit
# that is no promise: it follows the guest's own state, or KVM emulates it without listing it.
_NAMES = {
    (1, 0, "ecx"): "pni pclmulqdq dtes64 . ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr "
    "pdcm - pcid dca sse4_1 sse4_2 x2apic movbe popcnt . aes xsave . avx f16c rdrand .",
    (1, 0, "edx"): "fpu vme de pse tsc msr pae mce cx8 . - sep mtrr pge mca cmov pat pse36 pn "
    "clflush - dts acpi mmx fxsr sse sse2 ss . tm ia64 pbe",
    (7, 0, "ebx"): "fsgsbase . sgx bmi1 hle avx2 . smep bmi2 erms invpcid rtm cqm . mpx rdt_a "
    "avx512f avx512dq rdseed adx smap avx512ifma - clflushopt clwb intel_pt avx512pf avx512er "
    "avx512cd sha_ni avx512bw avx512vl",
    (7, 0, "ecx"): "prefetchwt1 avx512vbmi umip pku . waitpkg avx512_vbmi2 shstk gfni vaes "
    "vpclmulqdq avx512_vnni avx512_bitalg tme avx512_vpopcntdq - la57 - - - - - rdpid - "
    "bus_lock_detect cldemote - movdiri movdir64b enqcmd sgx_lc pks",
    (7, 0, "edx"): "- - avx512_4vnniw avx512_4fmaps fsrm uintr - - avx512_vp2intersect . md_clear "
    "- - . serialize . tsxldtrk - pconfig arch_lbr ibt - amx_bf16 avx512_fp16 amx_tile amx_int8 "
    "spec_ctrl intel_stibp flush_l1d arch_capabilities core_capabilities spec_ctrl_ssbd",
    (7, 1, "eax"): "- - - - avx_vnni avx512_bf16 - cmpccxadd - - fzrm fsrs fsrc - - - - - - - - "
    "amx_fp16 - avx_ifma",
    (
        0xD,
        0,
        "eax",
    ): "x87-state sse-state avx-state bndregs bndcsr opmask zmm_hi256 hi16_zmm - pkru "
    "- - - - - - - xtilecfg xtiledata",
    (0xD, 1, "eax"): "xsaveopt xsavec xgetbv1 xsaves xfd",
    (0x80000001, 0, "ecx"): "lahf_lm . svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch "
    "osvw ibs xop skinit wdt - lwp fma4 tce - - - tbm . perfctr_core perfctr_nb - bpext ptsc "
    "perfctr_llc mwaitx",
    (0x80000001, 0, "edx"): ". . . . . . . . . . - syscall . . . . . . - mp nx - mmxext . . "
    "fxsr_opt pdpe1gb rdtscp - lm 3dnowext 3dnow",
    (0x80000008, 0, "ebx"): "clzero irperf xsaveerptr - rdpru - - - - wbnoinvd - - amd_ibpb - "
    "amd_ibrs amd_stibp - - - - - - - amd_ppin amd_ssbd virt_ssbd amd_ssb_no",
    (0x40000001, 0, "eax"): "kvmclock kvm_nopiodelay kvm_mmu_op kvmclock2 kvm_asyncpf "
    "kvm_steal_time kvm_pv_eoi . - kvm_pv_tlb_flush kvm_asyncpf_vmexit kvm_pv_send_ipi "
    "kvm_poll_control kvm_pv_sched_yield kvm_asyncpf_int",
}


def missing_features(saved: CpuidTable, host: CpuidTable) -> list[str]:
    """The names of features that ``saved`` promises and ``host`` has not; empty if all is well."""
    missing = []
    for (leaf, subleaf, register), words in _NAMES.items():
        promised, given = saved.get(leaf, subleaf), host.get(leaf, subleaf)
        if promised is None:
            continue
        lacking = getattr(promised, register) & ~(getattr(given, register) if given else 0)
        if not lacking:
            continue
        for bit, name in enumerate(words.split()):
            if lacking >> bit & 1 and name != ".":
                missing.append(
                    name if name != "-" else f"CPUID {leaf:#x}.{subleaf} {register}:{bit}"
                )
    return missing
