"""Which vCPUs are threads of one core: one package, all its cores alike, APIC ids from 0 up."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.abi.kvm import kvm_cpuid_entry2
    from pyrovm.arch.x86.cpuid.table import CpuidTable

LEVEL_SMT, LEVEL_CORE = 1, 2  # leaf 0xB's level types

# Cache types of leaf 4 and leaf 0x8000001D.
CACHE_NONE, CACHE_DATA, CACHE_CODE, CACHE_UNIFIED = range(4)

# What the associativity codes of leaf 0x80000006 mean in ways (AMD APM vol. 3, E.4.5); 9 refers
# to leaf 0x8000001D, which is what is being built from it: 16 ways stand in.
_WAYS = {1: 1, 2: 2, 4: 4, 5: 6, 6: 8, 8: 16, 9: 16, 10: 32, 11: 48, 12: 64, 13: 96, 14: 128}


class Topology:
    """``vcpu_count`` vCPUs with one or two threads a core.

    ``core_bits`` and ``package_bits`` are by how much an APIC id is shifted to leave the number of
    the core and of the package.
    """

    __slots__ = ("core_bits", "package_bits", "threads_per_core", "vcpu_count")

    def __init__(self, vcpu_count: int, *, smt: bool) -> None:
        self.vcpu_count = vcpu_count
        self.threads_per_core = 2 if smt and vcpu_count > 1 else 1
        self.core_bits = self.threads_per_core - 1
        self.package_bits = (vcpu_count - 1).bit_length()

    @property
    def core_count(self) -> int:
        """How many cores the package has."""
        return -(-self.vcpu_count // self.threads_per_core)

    @property
    def addressable(self) -> int:
        """How many APIC ids the package spans: a power of two."""
        return 1 << self.package_bits


def set_common(table: CpuidTable, topology: Topology) -> None:
    """Leaf 1's counts, and the level lists of leaves 0xB and (where KVM offers it) 0x1F."""
    leaf1 = table.obtain(1)
    leaf1.ebx = leaf1.ebx & 0xFF00FFFF | topology.addressable << 16
    if topology.vcpu_count > 1:
        leaf1.edx |= 1 << 28  # HTT: the count above is meant
    else:
        leaf1.edx &= ~(1 << 28)
    for leaf in (0xB, 0x1F):
        if leaf == 0xB or table.get(leaf) is not None:
            table.remove(leaf)
            _set_levels(table, leaf, topology)


def _set_levels(table: CpuidTable, leaf: int, topology: Topology) -> None:
    levels = (
        (topology.core_bits, topology.threads_per_core, LEVEL_SMT),
        (topology.package_bits, topology.vcpu_count, LEVEL_CORE),
        (0, 0, 0),
    )
    for subleaf, (shift, count, kind) in enumerate(levels):
        entry = table.obtain(leaf, subleaf, indexed=True)
        entry.eax, entry.ebx, entry.ecx = shift, count, kind << 8 | subleaf


def set_intel_caches(table: CpuidTable, topology: Topology) -> None:
    """Leaf 4: who shares a cache (EAX 25:14) and how many cores there are (EAX 31:26)."""
    for entry in table.subleaves(4):
        if entry.eax & 0x1F:
            _set_sharing(entry, topology)
            cores = (topology.core_count - 1).bit_length()
            entry.eax = entry.eax & 0x03FFFFFF | ((1 << cores) - 1) << 26


def _set_sharing(entry: kvm_cpuid_entry2, topology: Topology) -> None:
    """Levels 1 and 2 belong to a core, the level above to the package."""
    level = entry.eax >> 5 & 7
    sharing = topology.addressable if level > 2 else topology.threads_per_core
    entry.eax = entry.eax & 0xFC003FFF | (sharing - 1) << 14


def set_amd(table: CpuidTable, topology: Topology) -> None:
    """Leaves 0x80000008, 0x8000001D and 0x8000001E (AMD APM vol. 3, appendix E.4)."""
    highest = table.obtain(0x80000000)
    highest.eax = max(highest.eax, 0x8000001F)
    table.obtain(0x80000001).ecx |= 1 << 22  # TopologyExtensions: leaves 1D and 1E count
    sizes = table.obtain(0x80000008)
    sizes.ecx = sizes.ecx & ~0xF0FF | topology.package_bits << 12 | topology.vcpu_count - 1
    if not any(entry.eax & 0x1F for entry in table.subleaves(0x8000001D)):
        _add_amd_caches(table)
    for entry in table.subleaves(0x8000001D):
        if entry.eax & 0x1F:
            _set_sharing(entry, topology)
    ids = table.obtain(0x8000001E)
    ids.ebx = topology.threads_per_core - 1 << 8
    ids.ecx = ids.edx = 0


def _add_amd_caches(table: CpuidTable) -> None:
    """Leaf 0x8000001D out of leaves 0x80000005 and 0x80000006, which every KVM passes on."""
    table.remove(0x8000001D)
    level1, level2 = table.get(0x80000005), table.get(0x80000006)
    caches = []
    if level1 is not None:
        for kind, register in ((CACHE_DATA, level1.ecx), (CACHE_CODE, level1.edx)):
            ways = register >> 16 & 0xFF
            caches.append((1, kind, (register >> 24) << 10, ways, register & 0xFF))
    if level2 is not None:
        l2, l3 = level2.ecx, level2.edx
        size = (l2 >> 16) << 10
        caches.append((2, CACHE_UNIFIED, size, _WAYS.get(l2 >> 12 & 0xF, 0), l2 & 0xFF))
        size = (l3 >> 18) << 19
        caches.append((3, CACHE_UNIFIED, size, _WAYS.get(l3 >> 12 & 0xF, 0), l3 & 0xFF))
    usable = [cache for cache in caches if all(cache[2:]) and cache[2] >= cache[3] * cache[4]]
    for subleaf, (level, kind, size, ways, line) in enumerate(usable):
        entry = table.obtain(0x8000001D, subleaf, indexed=True)
        entry.eax = 1 << 8 | level << 5 | kind  # self-initialising
        entry.ebx = ways - 1 << 22 | line - 1
        entry.ecx = size // (ways * line) - 1
    table.obtain(0x8000001D, len(usable), indexed=True)


def set_apic_id(table: CpuidTable, topology: Topology, index: int) -> None:
    """What differs from vCPU to vCPU: its APIC id wherever CPUID shows it.

    hot: per vCPU of every start.
    """
    leaf1 = table.obtain(1)
    leaf1.ebx = leaf1.ebx & 0x00FFFFFF | index << 24
    for leaf in (0xB, 0x1F):
        for subleaf in range(3):
            entry = table.get(leaf, subleaf)
            if entry is not None:
                entry.edx = index
    ids = table.get(0x8000001E)
    if ids is not None:
        ids.eax = index
        ids.ebx = ids.ebx & ~0xFF | index // topology.threads_per_core
