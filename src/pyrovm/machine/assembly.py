"""From what the API has configured to a running microVM: the controller's builder."""

from __future__ import annotations

import os
from time import monotonic_ns

from pyrovm.errors import PyrovmError
from pyrovm.kvm.system import Kvm
from pyrovm.machine.address_space import HighMemory
from pyrovm.machine.blueprint import DEFAULT_KVM, Blueprint
from pyrovm.machine.builder import build
from pyrovm.machine.microvm import Devices, MicroVm
from pyrovm.machine.parts import Log as BuildLog
from pyrovm.machine.prepared import Prepared, key_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyrovm.config.serial import SerialConfig
    from pyrovm.devices.virtio_mem import VirtioMem
    from pyrovm.devices.virtio_pmem import VirtioPmem
    from pyrovm.machine.blueprint import SerialPlan
    from pyrovm.machine.log import Log
    from pyrovm.machine.loop import EventLoop
    from pyrovm.machine.machine import Machine, StopReason
    from pyrovm.machine.ram_hotplug import HotplugRam
    from pyrovm.machine.resources import Resources
    from pyrovm.machine.restoring import Saved

    MakeSerial = Callable[[SerialConfig | None], SerialPlan]

PMEM_ALIGN = 2 << 20


class Assembler:
    """Builds machines for the controller.

    ``make_serial`` opens the console's host side for each try; ``on_init`` is called when the
    guest's init reports to the boot timer.  ``acpi`` False leaves out what some guests
    cannot stand, ``protocol`` starts the kernel in another way than it asks for.
    """

    def __init__(
        self,
        loop: EventLoop,
        log: Log,
        make_serial: MakeSerial,
        *,
        on_init: Callable[[], object] = lambda: None,
        on_built: Callable[[Machine], object] = lambda _machine: None,
        require_linux: bool = True,
        acpi: bool = True,
        protocol: str | None = None,
        kvm_device: str = DEFAULT_KVM,
    ) -> None:
        self._loop = loop
        self._log = log
        self._make_serial = make_serial
        self._on_init = on_init
        self._on_built = on_built
        self._require_linux = require_linux
        self._acpi = acpi
        self._protocol = protocol
        self._kvm_device = kvm_device
        self._prepared: Prepared | None = None

    def prepare(self) -> None:
        """Have KVM make the VM ahead of the start; where it cannot, the start will say why."""
        try:
            kvm = Kvm(self._kvm_device)
        except PyrovmError:
            return
        try:
            self._prepared = Prepared(kvm, kvm.create_vm())
        except PyrovmError:
            kvm.close()

    def prepare_memory(self, resources: Resources) -> None:
        """Fill the prepared VM's memory for a start with these resources, if there is one."""
        if self._prepared is not None:
            self._prepared.load(resources, self._protocol)

    def close(self) -> None:
        """Release what was prepared and not used."""
        if self._prepared is not None:
            self._prepared.close()
            self._prepared = None

    def __call__(self, resources: Resources, on_stop: Callable[[StopReason], None]) -> MicroVm:
        """Build a machine and let it run.

        Raises:
            PyrovmError: it cannot be; everything is as before.
        """
        began = monotonic_ns()
        devices = self._make_devices(resources)
        try:
            plan = self._blueprint(resources, devices)
            # Taken only now: it belongs to the machine, which releases it where building fails.
            prepared, self._prepared = self._prepared, None
            if prepared is not None:
                prepared.keep_for(key_of(resources, self._protocol))
            machine = build(
                plan,
                self._loop,
                BuildLog(self._log.info, self._log.guest, self._log.name_thread),
                on_stop,
                prepared,
            )
        except BaseException:
            devices.close_late()
            raise
        machine.timeline["start requested"] = began
        self._on_built(machine)
        machine.start()
        return MicroVm(machine, devices, self._log)

    def restore(
        self, resources: Resources, saved: Saved, on_stop: Callable[[StopReason], None]
    ) -> MicroVm:
        """Build a saved machine with these resources, which are its own; it stands still.

        Raises:
            PyrovmError: it cannot be.
        """
        from pyrovm.machine.restoring import restore

        began = monotonic_ns()
        devices = self._make_devices(resources)
        try:
            plan = self._blueprint(resources, devices)
            plan.prepare = lambda machine: _place_saved(machine, devices, saved)
            prepared, self._prepared = self._prepared, None
            log = BuildLog(self._log.info, self._log.guest, self._log.name_thread)
            machine = restore(plan, saved, self._loop, log, on_stop, prepared)
        except BaseException:
            devices.close_late()
            raise
        machine.timeline["start requested"] = began
        self._on_built(machine)
        return MicroVm(machine, devices, self._log)

    # ----------------------------------------------------------------- devices

    def _make_devices(self, resources: Resources) -> Devices:
        """All devices: those that are open already, and those that are made only now."""
        devices = Devices()
        try:
            if resources.balloon is not None:
                from pyrovm.machine.factory_balloon import make_balloon

                devices.balloon = make_balloon(resources.balloon)
            # What the factory made is known by its record; the protocol says less than it is.
            opened: Any
            for opened in resources.drives:
                devices.drives[opened.config.drive_id] = opened
                devices.blocks[opened.config.drive_id] = opened.device
            for opened in resources.networks:
                devices.nets[opened.config.iface_id] = opened.device
            if resources.has_mmds:
                self._connect_mmds(resources, devices)
            for config in resources.pmem:
                from pyrovm.machine.factory_pmem import make_pmem

                devices.pmem[config.id] = make_pmem(config)
            opened = resources.vsock
            if opened is not None:
                devices.vsock = opened.device
            if resources.entropy is not None:
                from pyrovm.machine.factory_entropy import make_entropy

                devices.entropy = make_entropy(resources.entropy)
            if resources.memory_hotplug is not None:
                from pyrovm.machine.factory_mem import make_memory_hotplug

                devices.memory_hotplug = make_memory_hotplug(resources.memory_hotplug)
        except BaseException:
            devices.close_late()
            raise
        return devices

    def _connect_mmds(self, resources: Resources, devices: Devices) -> None:
        from pyrovm.mmds.counters import MmdsCounters
        from pyrovm.mmds.stack import MmdsStack
        from pyrovm.mmds.token import TokenAuthority

        assert resources.mmds is not None
        devices.mmds_counters = MmdsCounters()
        tokens = TokenAuthority(resources.instance_id, os.urandom, _now_ms)
        for network in resources.networks:
            devices.nets[network.config.iface_id].mmds = (
                MmdsStack(resources.store(), resources.mmds, tokens, _now_ms, devices.mmds_counters)
                if network.has_mmds
                else None
            )

    # --------------------------------------------------------------- blueprint

    def _blueprint(self, resources: Resources, devices: Devices) -> Blueprint:
        config, template = resources.machine_config, resources.cpu_template
        capabilities = []
        if template is not None:
            from pyrovm.arch.x86.template import capability_changes

            capabilities = capability_changes(template)
        static = config.cpu_template
        return Blueprint(
            kernel_fd=resources.kernel_fd,
            initrd_fd=resources.initrd_fd if resources.initrd_fd >= 0 else None,
            boot_args=resources.boot_source.boot_args,
            root=_root_words(resources),
            vcpu_count=config.vcpu_count,
            mem_size_mib=config.mem_size_mib,
            smt=config.smt,
            huge_pages=config.huge_pages,
            track_dirty_pages=config.track_dirty_pages,
            devices=devices.in_attach_order(),
            prepare=lambda machine: _place(machine, devices),
            serial=self._make_serial(resources.serial),
            template=template,
            static_template=None if static in (None, "None") else static,
            capabilities=capabilities,
            boot_timer=self._on_init if resources.boot_timer else None,
            acpi=self._acpi,
            protocol=self._protocol,
            kernel_name=os.path.basename(resources.boot_source.kernel_image_path),
            kvm_device=self._kvm_device,
            require_linux=self._require_linux,
        )


def _root_words(resources: Resources) -> str:
    """What the kernel is told of its root device; empty where there is none."""
    if resources.has_root_drive:
        config = resources.drives[0].config
        device = f"PARTUUID={config.partuuid}" if config.partuuid else "/dev/vda"
        return f"root={device} {'ro' if config.is_read_only else 'rw'}"
    for index, pmem in enumerate(resources.pmem):
        if pmem.root_device:
            return f"root=/dev/pmem{index} {'ro' if pmem.read_only else 'rw'}"
    return ""


def _place(machine: Machine, devices: Devices) -> HotplugRam | None:
    """Put what devices bring with them into the address space; what memory can be plugged into."""
    last_gpa, last_size = machine.ram.ranges[-1]
    high = HighMemory(last_gpa + last_size)
    for pmem in devices.pmem.values():
        _place_pmem(machine, pmem, high)
    slots = None
    if devices.memory_hotplug is not None:
        slots = _place_hotplug(machine, devices.memory_hotplug, high)
    if devices.balloon is not None:
        devices.balloon.release = machine.ram.discard
    return slots


def _place_saved(machine: Machine, devices: Devices, saved: Saved) -> None:
    """The same, with what the guest had plugged.

    Raises:
        KeyError, TypeError, ValueError: this is no saved state.
    """
    slots = _place(machine, devices)
    mem = devices.memory_hotplug
    if slots is None or mem is None:
        return
    for device in saved.sections["devices"]["virtio"]:
        if device["name"] == mem.name:
            start, size = sum(size for _, size in machine.ram.ranges), mem.blocks.slot_size
            for index in device["state"]["device"]["present"]:
                if not 0 <= index < mem.blocks.total_size // size:
                    raise ValueError(f"memory slot {index} of {mem.blocks.total_size // size}")
                slots.put(index, saved.memory.map(start + index * size, size))


def _place_pmem(machine: Machine, pmem: VirtioPmem, high: HighMemory) -> None:
    mapping = pmem.backing.open()
    gpa = high.allocate(mapping.size, PMEM_ALIGN)
    readonly = pmem.backing.read_only
    # Devices must not write to a file that the guest may only read.
    machine.ram.add(gpa, mapping, readonly=readonly, for_devices=not readonly)
    pmem.place(gpa)


def _place_hotplug(machine: Machine, device: VirtioMem, high: HighMemory) -> HotplugRam:
    from pyrovm.machine.ram_hotplug import HotplugRam

    blocks = device.blocks
    gpa = high.allocate(blocks.total_size, blocks.slot_size)
    slots = HotplugRam(
        machine.ram,
        gpa,
        blocks.total_size,
        blocks.slot_size,
        lambda: machine.memory_changed(device),
    )
    device.place(gpa, slots)
    return slots


def _now_ms() -> int:
    return monotonic_ns() // 1_000_000
