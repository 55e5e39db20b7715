"""Where things are in a guest's physical address space.

::

    0x0000_0500  GDT, 0x520 IDT
    0x0000_6000  PVH start info or multiboot information, its module list behind it
    0x0000_7000  Linux zero page, or the PVH or multiboot memory map
    0x0000_8ff0  boot stack
    0x0000_9000  PML4, 0xa000 PDPT, 0xb000 PD: the first GiB, identity
    0x0002_0000  command line
    0x0009_fc00  "system memory": MP table and ACPI tables from below,
                 VMClock page and VM generation id from above      .. 0xe0000
    0x000e_0000  ACPI RSDP
    0x0010_0000  kernel from here on
    0xc000_0000  32-bit MMIO gap: boot timer, virtio-mmio pages, ECAM,
                 IOAPIC, LAPIC, the TSS for Intel                   .. 4 GiB
    0x40_0000_0000  64-bit MMIO gap, 256 GiB                        .. 512 GiB
    0x80_0000_0000  pmem and hot-plugged memory, 512 GiB            .. 1 TiB
"""

from __future__ import annotations

GDT = 0x500
IDT = 0x520
PVH_START_INFO = 0x6000
PVH_MODULES = 0x6040
MULTIBOOT_INFO = 0x6000
ZERO_PAGE = 0x7000
PVH_MEMORY_MAP = 0x7000
BOOT_STACK = 0x8FF0
PML4 = 0x9000
PDPT = 0xA000
PD = 0xB000
CMDLINE = 0x20000
CMDLINE_MAX = 2048  # bytes, with the NUL

SYSTEM_MEMORY = 0x9FC00  # also the end of low RAM
SYSTEM_MEMORY_END = 0xE0000
RSDP = 0xE0000
HIMEM = 0x100000

MMIO32_START = 0xC000_0000
MMIO32_END = 0x1_0000_0000
BOOT_TIMER = 0xC000_0000
VIRTIO_MMIO = 0xC000_1000
VIRTIO_MMIO_SIZE = 0x1000
ECAM = 0xEEC0_0000
ECAM_SIZE = 0x1000_0000
IOAPIC = 0xFEC0_0000
LAPIC = 0xFEE0_0000
KVM_TSS = 0xFFFB_D000

MMIO64_START = 256 << 30
MMIO64_END = 512 << 30
PAST_GAP_START = 512 << 30
PAST_GAP_END = 1024 << 30

GSI_KEYBOARD = 1
GSI_SERIAL = 4
GSI_FIRST_DEVICE = 5
GSI_LAST_LEGACY = 23


def ram_ranges(size: int) -> list[tuple[int, int]]:
    """(gpa, size) of the RAM regions of a guest with ``size`` bytes: from 0, around both gaps."""
    found = []
    for start, end in (
        (0, MMIO32_START),
        (MMIO32_END, MMIO64_START),
        (MMIO64_END, 1 << 46),
    ):
        if size:
            piece = min(size, end - start)
            found.append((start, piece))
            size -= piece
    return found


E820_RAM, E820_RESERVED = 1, 2


def e820(ranges: list[tuple[int, int]], *, acpi: bool = True) -> list[tuple[int, int, int]]:
    """The memory map that a guest is told: (gpa, size, type), in the order Firecracker lists.

    Reserved ranges came with ACPI, and there are kernels that cannot stand them (Unikraft issue
    1410): without ACPI the map names RAM only.
    """
    table = [(0, SYSTEM_MEMORY, E820_RAM)]
    if acpi:
        table += [
            (SYSTEM_MEMORY, SYSTEM_MEMORY_END - SYSTEM_MEMORY, E820_RESERVED),
            (ECAM, ECAM_SIZE, E820_RESERVED),
        ]
    for gpa, size in ranges:
        start = max(gpa, HIMEM)
        if start < gpa + size:
            table.append((start, gpa + size - start, E820_RAM))
    return table
