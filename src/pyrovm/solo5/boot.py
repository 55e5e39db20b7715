"""What a Solo5 hvt guest finds at its first instruction: tables, boot information, registers.

::

    0x0000_0000  GDT 0x1000, PML4 0x2000, PDPT 0x3000, PDs 0x4000, PT 0x8000: the host's,
                 not mapped for the guest (so a null pointer traps)
    0x0001_0000  boot information, manifest, command line: read-only for the guest
    0x0010_0000  program, heap, stack                                       .. mem_size
    mem_size     the network ring, where there is one                       .. + 2 MiB
"""

from __future__ import annotations

from struct import Struct, pack

from pyrovm.abi import kvm as abi
from pyrovm.arch.x86 import regs as x86
from pyrovm.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.memory.guest_memory import GuestMemory
    from pyrovm.solo5.image import Image

GDT, PML4, PDPT, PD, PT = 0x1000, 0x2000, 0x3000, 0x4000, 0x8000
BOOT_INFO, PROGRAM = 0x10000, 0x100000
CMDLINE_SIZE = 8192  # bytes, with the NUL

HUGE_PAGE = 2 << 20
MIN_MEMORY, MAX_MEMORY = HUGE_PAGE, 4 << 30

PRESENT, WRITABLE, HUGE = 1, 2, 1 << 7

CODE, DATA = 0x08, 0x10
# Flags in the layout of a descriptor's bytes 5 and 6: execute-only accessed 64-bit code, read-write
# accessed data, a busy 64-bit TSS.
CODE_FLAGS, DATA_FLAGS, TSS_FLAGS = 0xA099, 0xC093, 0x008B
CR0_NE, CR0_WP = 1 << 5, 1 << 16
CR4_OSFXSR, CR4_OSXMMEXCPT = 1 << 9, 1 << 10

FEATURE_NET_RING = 1
_BOOT_INFO = Struct("<QQQQQIIQ")


def check_memory(size: int) -> None:
    """Refuse a memory size, in bytes, that no guest can have.

    Raises:
        ConfigError: it is not 2 MiB to 4 GiB in steps of 2 MiB.
    """
    if not MIN_MEMORY <= size <= MAX_MEMORY or size % HUGE_PAGE:
        raise ConfigError(
            f"--mem={size >> 20}: guest memory is a multiple of 2, from 2 to 4096 MiB"
        )


def write_tables(memory: GuestMemory, mapped: int) -> None:
    """The GDT, and page tables for the first ``mapped`` bytes (whole 2 MiB pages)."""
    gdt = ((0, 0, 0), (CODE_FLAGS, 0, 0xFFFFF), (DATA_FLAGS, 0, 0xFFFFF))
    memory.write(GDT, b"".join(pack("<Q", x86.gdt_entry(*entry)) for entry in gdt))
    memory.write(PML4, pack("<Q", PDPT | PRESENT | WRITABLE))
    tables = -(-mapped // (1 << 30))
    memory.write(
        PDPT, b"".join(pack("<Q", PD + 0x1000 * i | PRESENT | WRITABLE) for i in range(tables))
    )
    entries = [PT | PRESENT | WRITABLE]
    entries += [i * HUGE_PAGE | PRESENT | WRITABLE | HUGE for i in range(1, mapped // HUGE_PAGE)]
    memory.write(PD, pack(f"<{len(entries)}Q", *entries))
    memory.write(
        PT, pack("<512Q", *(page | page_flags(page) for page in range(0, 2 << 20, 0x1000)))
    )


def page_flags(gpa: int) -> int:
    """How a page below 2 MiB is mapped."""
    if gpa < BOOT_INFO:
        return 0
    return PRESENT if gpa < PROGRAM else PRESENT | WRITABLE


def write_boot_info(
    memory: GuestMemory,
    image: Image,
    *,
    mem_size: int,
    tsc_hz: int,
    cmdline: bytes,
    ring_gpa: int | None,
) -> None:
    """The boot information with the manifest and the command line that it points to.

    Raises:
        ConfigError: the command line is too long.
    """
    if len(cmdline) >= CMDLINE_SIZE:
        raise ConfigError(
            f"Guest command line too long: {len(cmdline)} bytes, {CMDLINE_SIZE - 1} allowed"
        )
    manifest = image.manifest.pack()
    manifest_gpa = BOOT_INFO + _BOOT_INFO.size
    cmdline_gpa = manifest_gpa + len(manifest)
    memory.write(
        BOOT_INFO,
        _BOOT_INFO.pack(
            mem_size,
            image.end,
            tsc_hz,
            cmdline_gpa,
            manifest_gpa,
            0 if ring_gpa is None else FEATURE_NET_RING,
            0,
            ring_gpa or 0,
        ),
    )
    memory.write(manifest_gpa, manifest)
    memory.write(cmdline_gpa, cmdline + b"\0")


def boot_sregs(sregs: abi.kvm_sregs) -> abi.kvm_sregs:
    """Segments and control registers at entry, over those of a vCPU after reset."""
    sregs.gdt.base, sregs.gdt.limit = GDT, 8 * 3 - 1
    sregs.idt.base = sregs.idt.limit = 0
    sregs.cs = x86.segment(CODE_FLAGS, 0, 0xFFFFF, CODE)
    data = x86.segment(DATA_FLAGS, 0, 0xFFFFF, DATA)
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data
    sregs.tr = x86.segment(TSS_FLAGS, 0, 0, 0)
    sregs.ldt = abi.kvm_segment()
    sregs.ldt.unusable = 1
    sregs.cr0 = x86.CR0_PE | x86.CR0_ET | CR0_NE | CR0_WP | x86.CR0_PG
    sregs.cr3 = PML4
    sregs.cr4 = x86.CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT
    sregs.efer = x86.EFER_LME | x86.EFER_LMA
    return sregs


def boot_regs(entry: int, mem_size: int) -> abi.kvm_regs:
    """General registers at entry: RSP + 8 is aligned to 16 bytes, as behind a call."""
    regs = abi.kvm_regs()
    regs.rflags = x86.RFLAGS_RESERVED
    regs.rip = entry
    regs.rsp = mem_size - 8
    regs.rdi = BOOT_INFO
    return regs
