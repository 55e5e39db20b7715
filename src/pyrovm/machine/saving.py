"""A machine that stands still as plain data: everything but guest memory.

The sections are those of :mod:`pyrovm.snapshot.state`.  What is not in them is the user's to
provide again: logger, metrics, the serial port's file, the contents of the metadata service.
"""

from __future__ import annotations

import os

from pyrovm.arch.x86.cpuid.table import CpuidTable
from pyrovm.arch.x86.msr import saved_msrs
from pyrovm.errors import StateError
from pyrovm.kvm.saving import save_vcpu, save_vm
from pyrovm.machine.vcpu_setup import guest_tsc_khz

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrovm.machine.machine import Machine


def save_machine(machine: Machine, *, goodbye: bool = True) -> dict[str, Any]:
    """The sections of a paused machine, without its configuration and its memory.

    Guest memory may change on the way, so it is saved after this.  ``goodbye`` False leaves it to
    the copy to tell its drivers what it has not (:class:`pyrovm.machine.restoring.Saved`).

    Raises:
        StateError: it is not paused, or a device cannot be saved; nothing has changed.
        HostError: KVM did not tell a part of it.
    """
    if not machine.is_paused:
        raise StateError("save/restore unavailable while running")
    # Devices first: what they finish and announce is in guest memory and interrupt chips.  Those
    # that cannot be saved come before those that say goodbye to their driver (see ``Devices``).
    devices = _devices(machine, goodbye=goodbye)
    indices = saved_msrs(machine.kvm.msr_index_list(), machine.template_msrs)
    vcpus = [save_vcpu(thread.vcpu, indices) for thread in machine.threads]
    vm = save_vm(machine.vm) | {"template_msrs": machine.template_msrs}
    sections = {"host": _host(machine), "vm": vm}
    sections |= {f"vcpu.{index}": vcpu for index, vcpu in enumerate(vcpus)}
    sections["devices"] = devices
    return sections


def _host(machine: Machine) -> dict[str, Any]:
    """What the saved state depends on: this host's CPU, and how fast the guest's TSC counts."""
    return {
        "cpu_vendor": CpuidTable(machine.kvm.supported_cpuid()).vendor,
        "tsc_khz": guest_tsc_khz(machine.threads[0].vcpu),
        "kernel": os.uname().release,
    }


def _devices(machine: Machine, *, goodbye: bool) -> dict[str, Any]:
    with machine.serial_lock:
        serial = machine.serial.state()
    with machine.i8042_lock:
        i8042 = machine.i8042.state()
    virtio = []
    for slot in machine.slots:
        if goodbye:
            slot.say_goodbye()
        virtio.append(
            {
                "name": slot.device.name,
                "device_id": slot.device.device_id,
                "gsi": slot.gsi,
                "state": slot.state(),
            }
        )
    return {
        "serial": serial,
        "i8042": i8042,
        "cmos": None if machine.cmos is None else machine.cmos.state(),
        "vmgenid": machine.vmgenid.gpa,
        "vmclock": machine.vmclock.gpa,
        "virtio": virtio,
    }
