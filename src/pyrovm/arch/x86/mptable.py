"""The MP table: vCPUs, IOAPIC and interrupt wiring for guests that have no ACPI.

Intel MultiProcessor Specification 1.4, chapter 4.
"""

from __future__ import annotations

from struct import pack

from pyrovm.arch.x86.layout import GSI_LAST_LEGACY, IOAPIC, LAPIC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.arch.x86.system_memory import SystemMemory
    from pyrovm.memory.guest_memory import GuestMemory

SPEC = 4  # revision 1.4
OEM_ID, PRODUCT_ID = b"FC      ", b"000000000000"
APIC_VERSION = 0x14
CPU_STEPPING, CPU_FEATURES = 0x600, 0x201  # signature; FPU and APIC

# Entry types and their sizes in bytes: a processor 20, all others 8.
PROCESSOR, BUS, IO_APIC, IO_INTERRUPT, LOCAL_INTERRUPT = range(5)
CPU_ENABLED, CPU_BOOT = 1, 2
APIC_ENABLED = 1

INT, NMI, SMI, EXTINT = range(4)
ALL_APICS = 0xFF
BUS_ISA = 0

FLOATING_SIZE = 16


def size(vcpu_count: int) -> int:
    """Bytes of the pointer and the table behind it."""
    return FLOATING_SIZE + 44 + 20 * vcpu_count + 8 * (2 + GSI_LAST_LEGACY + 1 + 2)


def build(gpa: int, vcpu_count: int) -> bytes:
    """The floating pointer structure, to lie at ``gpa``, and the table right behind it."""
    entries = []
    for apic_id in range(vcpu_count):
        flags = CPU_ENABLED | (CPU_BOOT if apic_id == 0 else 0)
        entries.append(
            pack(
                "<BBBBIIII",
                PROCESSOR,
                apic_id,
                APIC_VERSION,
                flags,
                CPU_STEPPING,
                CPU_FEATURES,
                0,
                0,
            )
        )
    ioapic_id = vcpu_count + 1
    entries.append(pack("<BB6s", BUS, BUS_ISA, b"ISA   "))
    entries.append(pack("<BBBBI", IO_APIC, ioapic_id, APIC_VERSION, APIC_ENABLED, IOAPIC))
    entries += [
        pack("<BBHBBBB", IO_INTERRUPT, INT, 0, BUS_ISA, gsi, ioapic_id, gsi)
        for gsi in range(GSI_LAST_LEGACY + 1)
    ]
    # Virtual wire mode: the PIC arrives at LINT0, the NMI at LINT1.
    entries.append(pack("<BBHBBBB", LOCAL_INTERRUPT, EXTINT, 0, BUS_ISA, 0, 0, 0))
    entries.append(pack("<BBHBBBB", LOCAL_INTERRUPT, NMI, 0, BUS_ISA, 0, ALL_APICS, 1))
    return _floating(gpa) + _table(b"".join(entries), len(entries))


def _floating(gpa: int) -> bytes:
    raw = bytearray(pack("<4sIBBBB4x", b"_MP_", gpa + FLOATING_SIZE, 1, SPEC, 0, 0))
    raw[10] = -sum(raw) & 0xFF
    return bytes(raw)


def _table(entries: bytes, count: int) -> bytes:
    raw = bytearray(
        pack(
            "<4sHBB8s12sIHHIHBx",
            b"PCMP",
            44 + len(entries),
            SPEC,
            0,  # the checksum
            OEM_ID,
            PRODUCT_ID,
            0,
            0,
            count,
            LAPIC,
            0,
            0,
        )
    )
    raw += entries
    raw[7] = -sum(raw) & 0xFF
    return bytes(raw)


def write(memory: GuestMemory, pool: SystemMemory, vcpu_count: int) -> int:
    """Put the table into guest memory; its address, which must be the pool's first.

    Raises:
        ValueError: the pool is full.
    """
    gpa = pool.first_fit(size(vcpu_count), 16)
    memory.write(gpa, build(gpa, vcpu_count))
    return gpa
