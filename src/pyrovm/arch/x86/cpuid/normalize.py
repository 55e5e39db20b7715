"""What every guest's CPUID gets whatever was asked for: applied last, after any template."""

from __future__ import annotations

from pyrovm.arch.x86.cpuid import topology as topo
from pyrovm.arch.x86.cpuid.table import AMD, INTEL, CpuidTable
from pyrovm.arch.x86.cpuid.xsave import make_consistent

BRAND = 0x80000002
BRAND_AMD = "AMD EPYC"
BRAND_INTEL = "Intel(R) Xeon(R) Processor"

CLFLUSH_LINE = 64  # bytes

HYPERVISOR, TIMING = 0x40000000, 0x40000010
APIC_BUS_KHZ = 1_000_000  # KVM's APIC timer counts nanoseconds

LEAF1_ECX_PDCM, LEAF1_ECX_TSC_DEADLINE, LEAF1_ECX_HYPERVISOR = 1 << 15, 1 << 24, 1 << 31
LEAF6_EAX_TURBO, LEAF6_ECX_EPB = 1 << 1, 1 << 3
LEAF7_EBX_FDP_EXCPTN_ONLY, LEAF7_EBX_ZERO_FCS_FDS = 1 << 6, 1 << 13
LEAF7_ECX_WAITPKG = 1 << 5
LEAF7_EDX_ARCH_CAPABILITIES = 1 << 29


def normalize(table: CpuidTable, topology: topo.Topology, *, tsc_khz: int) -> None:
    """Make ``table`` that of a guest with ``topology``; per-vCPU ids are set separately.

    ``tsc_khz`` (0 where unknown) is for Intel's brand string, which ends in the frequency.
    """
    leaf1 = table.obtain(1)
    leaf1.ebx = leaf1.ebx & 0xFFFF00FF | CLFLUSH_LINE // 8 << 8
    # HYPERVISOR is what makes a guest look for KVM's leaves at all: without it there is no
    # kvm-clock.  TSC_DEADLINE is emulated by KVM's own LAPIC and spares the guest measuring its
    # APIC timer; KVM_GET_SUPPORTED_CPUID leaves both to the VMM.
    leaf1.ecx = leaf1.ecx & ~LEAF1_ECX_PDCM | LEAF1_ECX_TSC_DEADLINE | LEAF1_ECX_HYPERVISOR
    topo.set_common(table, topology)
    if table.vendor == INTEL:
        _normalize_intel(table, topology, tsc_khz)
    elif table.vendor == AMD:
        _normalize_amd(table, topology)
    make_consistent(table)


def _normalize_intel(table: CpuidTable, topology: topo.Topology, tsc_khz: int) -> None:
    topo.set_intel_caches(table, topology)
    power = table.get(6)
    if power is not None:
        power.eax &= ~LEAF6_EAX_TURBO
        power.ecx &= ~LEAF6_ECX_EPB
    features = table.get(7)
    if features is not None:
        # Both state how the x87 unit of every CPU since Skylake behaves; KVM does not pass them on
        # and cannot make the unit behave otherwise.
        features.ebx |= LEAF7_EBX_FDP_EXCPTN_ONLY | LEAF7_EBX_ZERO_FCS_FDS
        features.ecx &= ~LEAF7_ECX_WAITPKG
    monitoring = table.get(0xA)
    if monitoring is not None:
        monitoring.eax = monitoring.ebx = monitoring.ecx = monitoring.edx = 0
    table.set_text(BRAND, intel_brand(tsc_khz))


def _normalize_amd(table: CpuidTable, topology: topo.Topology) -> None:
    features = table.get(7)
    if features is not None:
        # KVM emulates this MSR even on AMD, whose guests do not know it.
        features.edx &= ~LEAF7_EDX_ARCH_CAPABILITIES
    topo.set_amd(table, topology)
    table.set_text(BRAND, BRAND_AMD)


def intel_brand(tsc_khz: int) -> str:
    """Intel's brand string with the frequency that the TSC counts at: ``... @ 2.70GHz``."""
    return f"{BRAND_INTEL} @ {tsc_khz / 1e6:.2f}GHz" if tsc_khz else BRAND_INTEL


def set_frequency(table: CpuidTable, tsc_khz: int) -> None:
    """Tell the TSC's frequency in leaf 0x40000010, so that kernels need not measure it.

    VMware's leaf, which QEMU offers beside KVM's too.  A guest looks for it only where the highest
    hypervisor leaf is that far up.
    """
    signature = table.get(HYPERVISOR)
    if signature is None:
        return
    signature.eax = max(signature.eax, TIMING)
    timing = table.obtain(TIMING)
    timing.eax, timing.ebx = tsc_khz, APIC_BUS_KHZ
