"""The registers a guest starts with, and the tables they point to (Intel SDM vol. 3, chapter 3)."""

from __future__ import annotations

from struct import pack

from pyrovm.abi import kvm as abi
from pyrovm.arch.x86 import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.memory.guest_memory import GuestMemory

CR0_PE, CR0_ET, CR0_PG = 1 << 0, 1 << 4, 1 << 31
CR4_PAE = 1 << 5
EFER_LME, EFER_LMA = 1 << 8, 1 << 10
RFLAGS_RESERVED = 2

CODE, DATA, TSS = 0x08, 0x10, 0x18  # selectors

# (flags, base, limit) of a descriptor; flags in the layout of its bytes 5 and 6
GDT_LINUX64 = ((0, 0, 0), (0xA09B, 0, 0xFFFFF), (0xC093, 0, 0xFFFFF), (0x808B, 0, 0xFFFFF))
GDT_PVH = ((0, 0, 0), (0xC09B, 0, 0xFFFFFFFF), (0xC093, 0, 0xFFFFFFFF), (0x008B, 0, 0x67))

FCW_INIT = 0x37F
MXCSR_INIT = 0x1F80


def gdt_entry(flags: int, base: int, limit: int) -> int:
    """A segment descriptor's 64 bits."""
    return (
        (base & 0xFF000000) << 32
        | (flags & 0xF0FF) << 40
        | (limit & 0x000F0000) << 32
        | (base & 0x00FFFFFF) << 16
        | limit & 0xFFFF
    )


def segment(flags: int, base: int, limit: int, selector: int) -> abi.kvm_segment:
    """The same descriptor as KVM wants it; the limit scaled where the granularity bit says so."""
    seg = abi.kvm_segment()
    seg.base = base
    granular = flags >> 15 & 1
    limit &= 0xFFFFF
    seg.limit = limit << 12 | 0xFFF if granular else limit
    seg.selector = selector
    seg.type = flags & 0xF
    seg.s = flags >> 4 & 1
    seg.dpl = flags >> 5 & 3
    seg.present = flags >> 7 & 1
    seg.avl = flags >> 12 & 1
    seg.l = flags >> 13 & 1
    seg.db = flags >> 14 & 1
    seg.g = granular
    seg.unusable = 0 if seg.present else 1
    return seg


def write_tables(memory: GuestMemory, *, pvh: bool) -> None:
    """GDT and empty IDT; for the 64-bit entry also page tables of the first GiB, identity."""
    gdt = GDT_PVH if pvh else GDT_LINUX64
    memory.write(layout.GDT, b"".join(pack("<Q", gdt_entry(*entry)) for entry in gdt))
    memory.write(layout.IDT, bytes(8))
    if not pvh:
        memory.write(layout.PML4, pack("<Q", layout.PDPT | 0x03))
        memory.write(layout.PDPT, pack("<Q", layout.PD | 0x03))
        memory.write(layout.PD, pack("<512Q", *((i << 21) | 0x83 for i in range(512))))


def boot_sregs(sregs: abi.kvm_sregs, *, pvh: bool) -> abi.kvm_sregs:
    """Segments and control registers at entry, over those of a vCPU after reset."""
    gdt = GDT_PVH if pvh else GDT_LINUX64
    sregs.gdt.base = layout.GDT
    sregs.gdt.limit = 8 * len(gdt) - 1
    sregs.idt.base = layout.IDT
    sregs.idt.limit = 7
    data = segment(*gdt[2], DATA)
    sregs.cs = segment(*gdt[1], CODE)
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data
    sregs.tr = segment(*gdt[3], TSS)
    if pvh:
        sregs.cr0 = CR0_PE | CR0_ET
        sregs.cr4 = 0
    else:
        sregs.cr0 |= CR0_PE | CR0_PG
        sregs.cr3 = layout.PML4
        sregs.cr4 |= CR4_PAE
        sregs.efer |= EFER_LME | EFER_LMA
    return sregs


def boot_regs(entry: int, *, pvh: bool, magic: int = 0) -> abi.kvm_regs:
    """General registers at entry; ``magic`` is what multiboot kernels find in EAX."""
    regs = abi.kvm_regs()
    regs.rflags = RFLAGS_RESERVED
    regs.rip = entry
    if pvh:
        regs.rax = magic
        regs.rbx = layout.PVH_START_INFO  # or the multiboot information, at the same address
    else:
        regs.rsp = regs.rbp = layout.BOOT_STACK
        regs.rsi = layout.ZERO_PAGE
    return regs


def boot_fpu() -> abi.kvm_fpu:
    """x87 and SSE control words after FNINIT."""
    fpu = abi.kvm_fpu()
    fpu.fcw = FCW_INIT
    fpu.mxcsr = MXCSR_INIT
    return fpu
