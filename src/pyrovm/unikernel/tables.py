"""What a process-like guest finds in its memory: page tables, GDT, IDT, TSS, boot information.

The addresses are those of libos/abi.h.  Everything is mapped for ring 3 (the VM is the wall, there
is none inside it) and nothing of the program's, which the library OS maps itself.  Entries are as
in the Intel SDM, vol. 3, 4.5 (paging), 3.4.5 and 7.2 (descriptors), 8.7 (TSS).
"""

from __future__ import annotations

from struct import pack, pack_into

from pyrovm.abi import libos as abi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.unikernel.library_os import Header

PAGE = 0x1000
HUGE = 0x200000
GIB = 1 << 30

PRESENT, WRITE, USER, ACCESSED, DIRTY, LARGE = 0x1, 0x2, 0x4, 0x20, 0x40, 0x80
NX = 1 << 63
TABLE = PRESENT | WRITE | USER
READ_ONLY = PRESENT | USER | ACCESSED | NX
READ_WRITE = PRESENT | WRITE | USER | ACCESSED | DIRTY | NX
EXECUTABLE = PRESENT | USER | ACCESSED

KERNEL_CODE, KERNEL_DATA = 0x00AF9B000000FFFF, 0x00CF93000000FFFF
USER_DATA, USER_CODE = 0x00CFF3000000FFFF, 0x00AFFB000000FFFF
TSS_LIMIT = 0x67
INTERRUPT_GATE = 0x8E00
BREAKPOINT = 3


class Tables:
    """Fills RAM from page ``start`` on; ``cr3`` and ``end`` afterwards say what came of it."""

    def __init__(self, ram: memoryview, start: int) -> None:
        self._ram = ram
        self.cr3 = start
        self.end = start + PAGE

    def _allocate(self) -> int:
        page = self.end
        self.end += PAGE
        return page

    def _entry(self, address: int, bottom: int) -> int:
        """Where the entry for ``address`` lies at level ``bottom`` (1: 4 KiB, 2: 2 MiB)."""
        table = self.cr3
        for level in range(4, bottom, -1):
            at = table + (address >> (3 + 9 * level) & 511) * 8
            entry = int.from_bytes(self._ram[at : at + 8], "little")
            if not entry:
                entry = self._allocate() | TABLE
                pack_into("<Q", self._ram, at, entry)
            table = entry & 0x000F_FFFF_FFFF_F000
        return table + (address >> (3 + 9 * bottom) & 511) * 8

    def map_pages(self, address: int, gpa: int, size: int, bits: int) -> None:
        """Map ``size`` bytes in pages of 4 KiB, all in one 2 MiB table."""
        count = -(-size // PAGE)
        at = self._entry(address, 1)
        entries = (gpa + n * PAGE | bits for n in range(count))
        pack_into(f"<{count}Q", self._ram, at, *entries)

    def map_large(self, address: int, gpa: int, size: int, bits: int) -> None:
        """Map ``size`` bytes in pages of 2 MiB."""
        for start in range(0, size, GIB):  # a table's worth at a time
            count = -(-min(size - start, GIB) // HUGE)
            at = self._entry(address + start, 2)
            entries = (gpa + start + n * HUGE | bits | LARGE for n in range(count))
            pack_into(f"<{count}Q", self._ram, at, *entries)

    def map_image(self, size: int) -> None:
        """Add a root image of ``size`` bytes to the linear map."""
        self.map_large(linear(abi.PV_IMAGE_GPA), abi.PV_IMAGE_GPA, size, READ_ONLY)


def linear(gpa: int) -> int:
    """Where the guest sees a guest-physical address."""
    return abi.PV_PHYSMAP + gpa


def cpu_gpa(index: int) -> int:
    """Where vCPU ``index`` has its area."""
    return abi.PV_CPU_GPA + index * abi.PV_CPU_STRIDE


def write_page_tables(ram: memoryview, start: int, *, ram_size: int, header: Header) -> Tables:
    """The linear map and the library OS; its data goes behind the tables, zeros behind that."""
    tables = Tables(ram, start)
    tables.map_large(linear(0), 0, ram_size, READ_WRITE)
    tables.map_pages(linear(abi.PV_CALL_GPA), abi.PV_CALL_GPA, PAGE, READ_WRITE)

    va, gpa = abi.PV_LIBOS_VA, abi.PV_LIBOS_GPA
    constants = header.rodata_end - header.text_end
    data = header.bss_end - header.rodata_end
    tables.map_pages(va, gpa, header.text_end, EXECUTABLE)
    tables.map_pages(va + header.text_end, gpa + header.text_end, constants, READ_ONLY)
    data_gpa = tables.end
    tables.end += data
    tables.map_pages(va + header.rodata_end, data_gpa, data, READ_WRITE)
    initial = header.data
    ram[data_gpa : data_gpa + len(initial)] = initial
    return tables


def write_descriptors(ram: memoryview, *, vcpu_count: int, vectors: int) -> None:
    """GDT and IDT for all vCPUs, a TSS and the area of struct pv_cpu for each."""
    gdt = [0, 0, KERNEL_CODE, KERNEL_DATA, 0, USER_DATA, USER_CODE, 0]
    for index in range(vcpu_count):
        area = cpu_gpa(index)
        base = linear(area + abi.PV_CPU_TSS)
        gdt.append((base >> 24 & 0xFF) << 56 | 0x89 << 40 | (base & 0xFFFFFF) << 16 | TSS_LIMIT)
        gdt.append(base >> 32)
        exceptions = linear(area + abi.PV_CPU_IST) + PAGE
        faults = linear(area + abi.PV_CPU_STRIDE)
        # RSP0 at 4, IST1 at 36, the I/O map's base (none: behind the limit) at 102
        pack_into("<Q", ram, area + abi.PV_CPU_TSS + 4, exceptions)
        pack_into("<Q", ram, area + abi.PV_CPU_TSS + 36, exceptions)
        pack_into("<H", ram, area + abi.PV_CPU_TSS + 102, TSS_LIMIT + 1)
        cpu = abi.pv_cpu(ram, area)
        cpu.self = linear(area)
        cpu.kernel_stack = cpu.fault_stack = faults
        cpu.number = index
    pack_into(f"<{len(gdt)}Q", ram, abi.PV_GDT_GPA, *gdt)

    gates = b"".join(
        _gate(vectors + n * abi.PV_VECTOR_SIZE, 3 if n == BREAKPOINT else 0)
        for n in range(abi.PV_VECTORS)
    )
    ram[abi.PV_IDT_GPA : abi.PV_IDT_GPA + len(gates)] = gates


def gdt_limit(vcpu_count: int) -> int:
    """Of the GDT that :func:`write_descriptors` writes."""
    return 8 * (8 + 2 * vcpu_count) - 1


def _gate(handler: int, dpl: int) -> bytes:
    flags = INTERRUPT_GATE | dpl << 13 | 1  # IST 1
    return pack(
        *("<HHHHII", handler & 0xFFFF, abi.PV_KERNEL_CODE, flags, handler >> 16 & 0xFFFF),
        *(handler >> 32, 0),
    )
