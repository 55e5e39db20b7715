"""A machine from saved sections and memory that is there already: built, not booted, at rest.

The same serves a snapshot that was loaded from files and a copy of a running machine: they differ
only in where memory comes from (:class:`SavedMemory`).
"""

from __future__ import annotations

import os
from struct import error as StructError
from time import time_ns

from pyrovm.arch.x86.cpuid.compare import missing_features
from pyrovm.arch.x86.cpuid.table import CpuidTable
from pyrovm.devices.vmclock import VmClock
from pyrovm.devices.vmgenid import VmGenId
from pyrovm.errors import SnapshotError, Unsupported
from pyrovm.kvm.saving import restore_vcpu, restore_vm, scale_tsc
from pyrovm.machine.machine import Machine
from pyrovm.machine.parts import Parts
from pyrovm.machine.ram import Ram
from pyrovm.machine.vcpu_setup import guest_tsc_khz

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Protocol

    from pyrovm.host.mapping import Mapping as HostMapping
    from pyrovm.machine.blueprint import Blueprint
    from pyrovm.machine.loop import EventLoop
    from pyrovm.machine.machine import StopReason
    from pyrovm.machine.parts import Log
    from pyrovm.machine.prepared import Prepared

    class SavedMemory(Protocol):
        """Guest memory with its contents, wherever they come from."""

        @property
        def ranges(self) -> Sequence[tuple[int, int]]:
            """(gpa, size) of the RAM proper."""

        def map(self, saved_at: int, size: int) -> HostMapping:
            """The memory that was saved from offset ``saved_at`` on; the caller closes it.

            Raises:
                HostError: it cannot be mapped.
            """

        def start(self) -> None:
            """All has been mapped: from now on pages are looked at.

            Raises:
                HostError: there is nobody to provide them.
            """


NS_PER_MS = 1_000_000


# What comes of plain data that is not what it has to be.
_UNFIT = (LookupError, TypeError, ValueError, AttributeError, OverflowError, StructError)


class Saved:
    """What a machine is made of again.

    ``sections`` are those of :func:`pyrovm.machine.saving.save_machine`, saved ``saved_ns`` after
    1970.  ``advance`` has the guest's clock go on as if it had run until now; else it goes on where
    it stood.  ``is_branch`` tells that the source runs on: then the TSC goes on as well, and the
    drivers have yet to hear what is gone.
    """

    __slots__ = ("advance", "is_branch", "memory", "saved_ns", "sections")

    def __init__(
        self,
        sections: Mapping[str, Any],
        memory: SavedMemory,
        *,
        saved_ns: int,
        advance: bool = False,
        is_branch: bool = False,
    ) -> None:
        self.sections = sections
        self.memory = memory
        self.saved_ns = saved_ns
        self.advance = advance
        self.is_branch = is_branch


def restore(
    plan: Blueprint,
    saved: Saved,
    loop: EventLoop,
    log: Log,
    on_stop: Callable[[StopReason], None],
    prepared: Prepared | None = None,
) -> Machine:
    """Build the machine, paused; on any error all but the plan's own devices is released again.

    ``plan`` has the devices of the saved machine in their order; of its kernel nothing is used.
    ``prepared`` was made ahead of time; it belongs to the machine from now on.

    Raises:
        Unsupported: this host's CPU lacks what the guest relies on.
        HostError: the host refused something.
        SnapshotError: the sections are not of such a machine.
        GuestError: what the guest had set up does not fit its memory.
    """
    machine = Machine(loop, on_stop)
    machine.mark("build")
    try:
        _Restorer(plan, machine, log, saved).run(prepared)
        machine.start_paused()
    except _UNFIT as error:
        # The sections are input: whatever they lack or have too much of ends here.
        machine.close(devices=False)
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise SnapshotError(f"Snapshot state is invalid: {what}") from error
    except BaseException:
        machine.close(devices=False)
        raise
    return machine


class _Restorer(Parts):
    """The steps, in the order in which things need each other."""

    def __init__(self, plan: Blueprint, machine: Machine, log: Log, saved: Saved) -> None:
        self.saved = saved
        self.devices = saved.sections["devices"]
        super().__init__(plan, machine, log, is_linux=self.devices["cmos"] is None)

    def run(self, prepared: Prepared | None) -> None:
        self.open_vm(prepared)
        self.check_cpu()
        self.map_memory()
        self.create_chips()
        self.attach_legacy_devices()
        self.attach_virtio_devices()
        self.place_ids()
        self.saved.memory.start()
        self.restore_devices()
        self.restore_vcpus()
        self.restore_chips()
        self.announce()

    def check_cpu(self) -> None:
        """Name what the guest was promised and this host has not.

        Raises:
            Unsupported: there is such a thing.
        """
        host = CpuidTable(self.machine.kvm.supported_cpuid())
        promised = CpuidTable.from_state(self.saved.sections["vcpu.0"]["cpuid"])
        vendor = self.saved.sections["host"]["cpu_vendor"]
        if vendor != host.vendor:
            self.log.warn(
                f"Host CPU vendor differs from the snapshotted one: {host.vendor} instead of "
                f"{vendor}"
            )
        missing = missing_features(promised, host)
        if missing:
            raise Unsupported(
                "This host's CPU lacks features that the guest was told of: " + ", ".join(missing)
            )

    def map_memory(self) -> None:
        plan, machine, memory = self.plan, self.machine, self.saved.memory
        if self.prepared is not None:
            self.prepared.drop_memory()
        machine.ram = Ram(machine.vm, track_dirty_pages=plan.track_dirty_pages)
        machine.on_close(machine.ram.close)
        machine.ram.fill(memory.ranges, memory.map, huge_pages=plan.huge_pages)
        if plan.prepare is not None:
            plan.prepare(machine)
        self.map_register_pages()

    def place_ids(self) -> None:
        machine, memory = self.machine, self.machine.ram.memory
        genid = self.interrupt(self.take_gsi())
        machine.vmgenid = VmGenId(memory, self.devices["vmgenid"], genid, os.urandom)
        clock = self.interrupt(self.take_gsi())
        machine.vmclock = VmClock(memory, self.devices["vmclock"], clock)

    def restore_devices(self) -> None:
        machine = self.machine
        machine.serial.restore(self.devices["serial"])
        machine.i8042.restore(self.devices["i8042"])
        if machine.cmos is not None:
            machine.cmos.restore(self.devices["cmos"])
        saved = self.devices["virtio"]
        if len(saved) != len(machine.slots):
            raise ValueError(f"{len(saved)} virtio devices saved, {len(machine.slots)} configured")
        for slot, state in zip(machine.slots, saved, strict=True):
            here = (slot.device.name, slot.device.device_id, slot.gsi)
            there = (state["name"], state["device_id"], state["gsi"])
            if here != there:
                raise ValueError(f"virtio device (name, kind, line) {there} saved, {here} here")
        for slot, state in zip(machine.slots, saved, strict=True):
            slot.restore(state["state"])

    def restore_vcpus(self) -> None:
        sections = self.saved.sections
        vcpus = self.make_vcpus()
        here_khz = guest_tsc_khz(vcpus[0])
        passed_ns = time_ns() - self.saved.saved_ns if self.saved.is_branch else 0
        for index, vcpu in enumerate(vcpus):
            scale_tsc(vcpu, saved_khz=sections["host"]["tsc_khz"], here_khz=here_khz)
            tsc_passed = passed_ns * here_khz // NS_PER_MS
            restore_vcpu(vcpu, sections[f"vcpu.{index}"], tsc_passed=tsc_passed)
            self.add_thread(vcpu)

    def restore_chips(self) -> None:
        vm = self.saved.sections["vm"]
        self.machine.template_msrs = [int(index) for index in vm["template_msrs"]]
        restore_vm(
            self.machine.vm,
            vm,
            saved_ns=self.saved.saved_ns,
            advance_to_ns=time_ns() if self.saved.advance else 0,
        )

    def announce(self) -> None:
        """Tell the guest that it is a copy, and again what it may not have heard before."""
        machine = self.machine
        if self.saved.is_branch:
            for slot in machine.slots:
                slot.say_goodbye()
        machine.vmgenid.restored()
        machine.vmclock.restored()
        with machine.serial_lock:
            machine.serial.restored()
        with machine.i8042_lock:
            machine.i8042.restored()
