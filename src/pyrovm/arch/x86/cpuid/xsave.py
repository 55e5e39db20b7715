"""Leaf 0xD, the extended state: what a template or a host left inconsistent is put right.

Subleaf 0: XCR0 bits that may be set (EAX, EDX), the size of the standard format for the current
XCR0 (EBX, which KVM keeps up to date itself) and for all of them (ECX).  Subleaf 1: XSAVE's
variants, the compacted size (EBX) and the supervisor states (ECX, EDX).  Subleaf n: size (EAX) and
offset (EBX) of state component n.  Intel SDM vol. 1, chapter 13.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.arch.x86.cpuid.table import CpuidTable

LEAF = 0xD

X87, SSE, AVX = 1 << 0, 1 << 1, 1 << 2
# Components that XSETBV takes all or none of.
_GROUPS = (0x18, 0xE0, 0x60000)  # MPX, AVX-512, AMX

LEAF1_ECX_XSAVE = 1 << 26
LEGACY_AREA = 512 + 64  # bytes of x87 and SSE state and the XSAVE header
XSAVEC, XSAVES = 1 << 1, 1 << 3


def make_consistent(table: CpuidTable) -> None:
    """Drop components that are offered to nobody and recompute the sizes that follow from it."""
    root, variants = table.get(LEAF), table.get(LEAF, 1)
    if root is None:
        return
    user = root.eax | root.edx << 32
    supervisor = 0
    if variants is not None:
        if not variants.eax & XSAVES:
            variants.ecx = variants.edx = 0
        if not variants.eax & (XSAVES | XSAVEC):
            variants.ebx = 0
        supervisor = variants.ecx | variants.edx << 32
    size = LEGACY_AREA
    for entry in table.subleaves(LEAF):
        component = 1 << entry.index
        if entry.index < 2:
            continue
        if not component & (user | supervisor):
            table.remove(LEAF, entry.index)
        elif component & user:
            size = max(size, entry.ebx + entry.eax)
    root.ecx = size if user else 0


def offered_xcr0(table: CpuidTable) -> int:
    """The largest XCR0 that a guest with this table may set."""
    root, features = table.get(LEAF), table.get(1)
    if root is None or features is None or not features.ecx & LEAF1_ECX_XSAVE:
        return X87
    value = root.eax | root.edx << 32 | X87
    if not value & AVX or not value & SSE:
        return value & (X87 | SSE)
    for group in _GROUPS:
        if value & group != group:
            value &= ~group
    return value
