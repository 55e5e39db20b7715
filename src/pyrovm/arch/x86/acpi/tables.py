"""The ACPI tables around the DSDT, and how they find their places in guest memory (ACPI 6.5, 5.2).

Hardware-reduced ACPI: no power management registers, no legacy PIC or PIT to describe, no sleep.
"""

from __future__ import annotations

from struct import pack, pack_into

from pyrovm.arch.x86 import layout
from pyrovm.arch.x86.acpi import dsdt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyrovm.arch.x86.system_memory import SystemMemory
    from pyrovm.memory.guest_memory import GuestMemory

OEM_ID = b"FIRECK"
CREATOR_ID = b"PYRO"
HEADER_SIZE = 36

# FADT (5.2.9): the revision, its minor part, and where the fields lie that are not zero.
FADT_REVISION, FADT_MINOR, FADT_SIZE = 6, 5, 276
FADT_IAPC_BOOT_ARCH, FADT_FLAGS, FADT_MINOR_AT = 109, 112, 131
FADT_X_DSDT, FADT_HYPERVISOR = 140, 268
NO_VGA = 1 << 2
POWER_BUTTON_IS_DEVICE, SLEEP_BUTTON_IS_DEVICE = 1 << 4, 1 << 5  # and there is no such device
HARDWARE_REDUCED = 1 << 20
HYPERVISOR = b"FIRECKVM"

MADT_LOCAL_APIC, MADT_IO_APIC = 0, 1


def table(signature: bytes, revision: int, table_id: bytes, contents: bytes) -> bytes:
    """A system description table: header, contents, and a checksum that makes all sum to 0."""
    raw = bytearray(
        pack(
            "<4sIBB6s8sI4sI",
            signature,
            HEADER_SIZE + len(contents),
            revision,
            0,
            OEM_ID,
            table_id,
            0,
            CREATOR_ID,
            1,
        )
    )
    raw += contents
    raw[9] = -sum(raw) & 0xFF
    return bytes(raw)


def build_dsdt(
    virtio: Iterable[tuple[int, int]],
    vmgenid: tuple[int, int] | None,
    vmclock: tuple[int, int] | None,
    *,
    pci: bool,
) -> bytes:
    """The DSDT; each device is given as (gpa, gsi)."""
    return table(b"DSDT", 6, b"FCVMDSDT", dsdt.body(virtio, vmgenid, vmclock, pci=pci))


def build_fadt(dsdt_gpa: int) -> bytes:
    """The Fixed ACPI Description Table."""
    contents = bytearray(FADT_SIZE - HEADER_SIZE)
    pack_into("<H", contents, FADT_IAPC_BOOT_ARCH - HEADER_SIZE, NO_VGA)
    flags = HARDWARE_REDUCED | POWER_BUTTON_IS_DEVICE | SLEEP_BUTTON_IS_DEVICE
    pack_into("<I", contents, FADT_FLAGS - HEADER_SIZE, flags)
    pack_into("<B", contents, FADT_MINOR_AT - HEADER_SIZE, FADT_MINOR)
    pack_into("<Q", contents, FADT_X_DSDT - HEADER_SIZE, dsdt_gpa)
    pack_into("<8s", contents, FADT_HYPERVISOR - HEADER_SIZE, HYPERVISOR)
    return table(b"FACP", FADT_REVISION, b"FCVMFADT", bytes(contents))


def build_madt(vcpu_count: int) -> bytes:
    """The Multiple APIC Description Table: the IOAPIC, then the local APICs."""
    contents = pack("<II", layout.LAPIC, 0)
    contents += pack("<BBBBII", MADT_IO_APIC, 12, 0, 0, layout.IOAPIC, 0)
    for apic_id in range(vcpu_count):
        contents += pack("<BBBBI", MADT_LOCAL_APIC, 8, apic_id, apic_id, 1)
    return table(b"APIC", 6, b"FCVMMADT", contents)


def build_mcfg() -> bytes:
    """The PCI configuration space: segment 0, bus 0.  There even without PCI, as the e820 entry."""
    return table(b"MCFG", 1, b"FCMVMCFG", pack("<8xQHBB4x", layout.ECAM, 0, 0, 0))


def build_xsdt(tables: Iterable[int]) -> bytes:
    """The list of tables."""
    return table(b"XSDT", 1, b"FCMVXSDT", b"".join(pack("<Q", gpa) for gpa in tables))


def build_rsdp(xsdt_gpa: int) -> bytes:
    """The root pointer, revision 2 (5.2.5.3)."""
    raw = bytearray(pack("<8sB6sBIIQB3x", b"RSD PTR ", 0, OEM_ID, 2, 0, 36, xsdt_gpa, 0))
    raw[8] = -sum(raw[:20]) & 0xFF
    raw[32] = -sum(raw) & 0xFF
    return bytes(raw)


def write(
    memory: GuestMemory,
    pool: SystemMemory,
    *,
    vcpu_count: int,
    virtio: Iterable[tuple[int, int]] = (),
    vmgenid: tuple[int, int] | None = None,
    vmclock: tuple[int, int] | None = None,
    pci: bool = False,
) -> int:
    """Put all tables into guest memory; the address of the RSDP.

    Devices are given as (gpa, gsi).  To leave ACPI out altogether, do not call this, and the guest
    will use the MP table and its command line.

    Raises:
        ValueError: the pool is full.
    """

    def place(raw: bytes) -> int:
        gpa = pool.first_fit(len(raw))
        memory.write(gpa, raw)
        return gpa

    dsdt_gpa = place(build_dsdt(virtio, vmgenid, vmclock, pci=pci))
    listed = [place(build_fadt(dsdt_gpa)), place(build_madt(vcpu_count)), place(build_mcfg())]
    xsdt_gpa = place(build_xsdt(listed))
    memory.write(layout.RSDP, build_rsdp(xsdt_gpa))
    return layout.RSDP
