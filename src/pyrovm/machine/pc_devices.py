"""What kernels other than Linux look for on a PC without asking whether it is there."""

from __future__ import annotations

from time import time

from pyrovm.devices import pc_ports
from pyrovm.devices.cmos import Cmos

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.machine.machine import Machine

CMOS, CMOS_PORTS = 0x70, 2
PCI_CONFIG, PCI_CONFIG_PORTS = 0xCF8, 8


def attach_pc_devices(machine: Machine) -> None:
    """Put a clock, two ways to end the machine, and a PCI bus without devices on its bus."""

    def ended(value: int) -> None:
        ok = value == pc_ports.DEBUG_EXIT_SUCCESS
        machine.power_off(f"the guest left by the debug exit with {value}", ok=ok)

    def power_off() -> None:
        machine.power_off("the guest powered off")

    bus = machine.bus
    machine.cmos = Cmos(time)
    bus.add_ports(CMOS, CMOS_PORTS, machine.cmos)
    bus.add_ports(PCI_CONFIG, PCI_CONFIG_PORTS, pc_ports.EmptyPorts())
    bus.add_ports(pc_ports.DEBUG_EXIT, 1, pc_ports.DebugExit(ended))
    bus.add_ports(pc_ports.PM1_CONTROL, 2, pc_ports.PowerButton(power_off))
