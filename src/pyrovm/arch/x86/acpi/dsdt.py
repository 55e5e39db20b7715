r"""The DSDT: every device of the machine that a bus cannot discover.

::

    \_SB.Vnnn   LNRO0005  virtio-mmio, nnn = GSI - 5
    \_SB.VGEN   VMGENCTR  VM generation id
    \_SB.VCLK   AMZNC10C  VMClock
    \_SB.GED_   ACPI0013  the interrupts of these two, turned into notifications
    \_SB.COM1   PNP0501   serial port
    \_SB.PS2_   PNP0303   keyboard controller
    \_SB.PC00   PNP0A08   PCI host bridge, only with PCI
"""

from __future__ import annotations

from pyrovm.arch.x86 import layout
from pyrovm.arch.x86.acpi import aml

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

VMCLOCK_SIZE = 0x1000
NOTIFY_STATUS_CHANGE = 0x80
PRESENT_ENABLED_SHOWN_WORKING = 0xF

MMIO32_WINDOWS_END = layout.ECAM


def body(
    virtio: Iterable[tuple[int, int]],
    vmgenid: tuple[int, int] | None,
    vmclock: tuple[int, int] | None,
    *,
    pci: bool,
) -> bytes:
    """The table's definition block; each device is given as (gpa, gsi)."""
    devices = [_virtio(gpa, gsi) for gpa, gsi in virtio]
    events = []
    if vmgenid is not None:
        devices.append(_vmgenid(vmgenid[0]))
        events.append((vmgenid[1], "\\_SB.VGEN"))
    if vmclock is not None:
        devices.append(_vmclock(vmclock[0]))
        events.append((vmclock[1], "\\_SB.VCLK"))
    if events:
        devices.append(_generic_events(events))
    devices += [_serial(), _keyboard()]
    if pci:
        devices.append(_pci_host_bridge())
    return aml.scope("\\_SB", *devices)


def _virtio(gpa: int, gsi: int) -> bytes:
    number = gsi - layout.GSI_FIRST_DEVICE
    return aml.device(
        f"V{number:03}",
        aml.name("_HID", aml.string("LNRO0005")),
        aml.name("_UID", aml.integer(number)),
        aml.name("_CCA", aml.integer(1)),
        aml.name(
            "_CRS",
            aml.resources(aml.memory32(gpa, layout.VIRTIO_MMIO_SIZE), aml.interrupt(gsi)),
        ),
    )


def _vmgenid(gpa: int) -> bytes:
    address = aml.package(aml.integer(gpa & 0xFFFFFFFF), aml.integer(gpa >> 32))
    return aml.device(
        "VGEN",
        aml.name("_HID", aml.string("VMGENCTR")),
        aml.name("_CID", aml.string("VM_Gen_Counter")),
        aml.name("_DDN", aml.string("VM_Gen_Counter")),
        aml.name("ADDR", address),
    )


def _vmclock(gpa: int) -> bytes:
    return aml.device(
        "VCLK",
        aml.name("_HID", aml.string("AMZNC10C")),
        aml.name("_CID", aml.string("VMCLOCK")),
        aml.name("_DDN", aml.string("VMCLOCK")),
        aml.name("_STA", aml.integer(PRESENT_ENABLED_SHOWN_WORKING)),
        aml.name("_CRS", aml.resources(aml.memory_window(gpa, VMCLOCK_SIZE))),
    )


def _generic_events(events: list[tuple[int, str]]) -> bytes:
    """The Generic Event Device (5.6.9): which interrupt means which device has news."""
    return aml.device(
        "GED",
        aml.name("_HID", aml.string("ACPI0013")),
        aml.name("_CRS", aml.resources(*(aml.interrupt(gsi) for gsi, _ in events))),
        aml.method(
            "_EVT",
            1,
            *(
                aml.if_equal(aml.ARG0, aml.integer(gsi), aml.notify(path, NOTIFY_STATUS_CHANGE))
                for gsi, path in events
            ),
        ),
    )


def _serial() -> bytes:
    return aml.device(
        "COM1",
        aml.name("_HID", aml.eisa_id("PNP0501")),
        aml.name("_UID", aml.integer(0)),
        aml.name("_DDN", aml.string("COM1")),
        aml.name("_CRS", aml.resources(aml.interrupt(layout.GSI_SERIAL), aml.io_ports(0x3F8, 8))),
    )


def _keyboard() -> bytes:
    return aml.device(
        "PS2",
        aml.name("_HID", aml.eisa_id("PNP0303")),
        aml.name(
            "_CRS",
            aml.resources(
                aml.io_ports(0x60, 1), aml.io_ports(0x64, 1), aml.interrupt(layout.GSI_KEYBOARD)
            ),
        ),
    )


def _pci_host_bridge() -> bytes:
    return aml.device(
        "PC00",
        aml.name("_HID", aml.eisa_id("PNP0A08")),
        aml.name("_CID", aml.eisa_id("PNP0A03")),
        aml.name("_UID", aml.integer(0)),
        aml.name("_SEG", aml.integer(0)),
        aml.name("_BBN", aml.integer(0)),
        aml.name("_CCA", aml.integer(1)),
        aml.name(
            "_CRS",
            aml.resources(
                aml.bus_range(0, 0),
                aml.memory_range32(layout.VIRTIO_MMIO, MMIO32_WINDOWS_END - layout.VIRTIO_MMIO),
                aml.memory_range64(layout.MMIO64_START, layout.MMIO64_END - layout.MMIO64_START),
            ),
        ),
    )
