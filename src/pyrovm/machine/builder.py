"""From a blueprint to a machine that is ready to run, in the order in which things need each other.

Devices come before the command line and the ACPI tables, which announce them.
"""

from __future__ import annotations

import os

from pyrovm.arch.x86 import mptable, regs
from pyrovm.arch.x86.acpi import tables as acpi
from pyrovm.arch.x86.layout import e820
from pyrovm.arch.x86.system_memory import SystemMemory
from pyrovm.boot import cmdline, loader, multiboot
from pyrovm.boot.identify import identify
from pyrovm.devices import vmclock, vmgenid
from pyrovm.machine.machine import Machine
from pyrovm.machine.parts import Log, Parts
from pyrovm.machine.prepared import load_files, reader_at
from pyrovm.machine.ram import Ram
from pyrovm.machine.vcpu_setup import build_model, configure_vcpu, guest_tsc_khz

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.arch.x86.template import Template
    from pyrovm.boot.loader import Initrd, LoadedKernel
    from pyrovm.machine.blueprint import Blueprint
    from pyrovm.machine.loop import EventLoop
    from pyrovm.machine.machine import StopReason
    from pyrovm.machine.prepared import Prepared


def build(
    plan: Blueprint,
    loop: EventLoop,
    log: Log,
    on_stop: Callable[[StopReason], None],
    prepared: Prepared | None = None,
) -> Machine:
    """Build the machine; on any error, everything but the plan's own devices is released again.

    ``prepared`` was made ahead of time, for this plan; it belongs to the machine from now on.

    Raises:
        ConfigError: the kernel, the command line or a size cannot be.
        HostError: the host refused something.
    """
    machine = Machine(loop, on_stop)
    machine.mark("build")
    try:
        _Builder(plan, machine, log).run(prepared)
    except BaseException:
        machine.close(devices=False)
        raise
    return machine


class _Builder(Parts):
    """The steps of a machine that boots a kernel."""

    def __init__(self, plan: Blueprint, machine: Machine, log: Log) -> None:
        self.kind = identify(reader_at(plan.kernel_fd))
        super().__init__(plan, machine, log, is_linux=self.kind.is_linux)

    def run(self, prepared: Prepared | None) -> None:
        self.open_vm(prepared)
        self.allocate_memory()
        self.create_chips()
        self.attach_legacy_devices()
        self.attach_virtio_devices()
        self.load()
        self.create_vcpus()

    def allocate_memory(self) -> None:
        plan, machine = self.plan, self.machine
        shared = any(device.needs_shared_memory for device in plan.devices)
        if self.prepared is not None and shared:
            self.prepared.drop_memory()
        if self.prepared is not None and self.prepared.ram is not None:
            machine.ram = self.prepared.ram
        else:
            machine.ram = Ram(machine.vm, track_dirty_pages=plan.track_dirty_pages)
            machine.on_close(machine.ram.close)
            machine.ram.allocate(plan.mem_size_mib, plan.huge_pages, shared=shared)
        if plan.prepare is not None:
            plan.prepare(machine)
        self.map_register_pages()

    # ---------------------------------------------------------------- boot

    def load(self) -> None:
        """Kernel, initrd, command line and tables into guest memory."""
        plan = self.plan
        # What the user wrote is checked before the large files are read.
        line = self.command_line()
        prepared = self.prepared
        if prepared is not None and prepared.ram is not None:
            kernel, initrd = prepared.kernel, prepared.initrd
        else:
            kernel, initrd = load_files(
                self.machine.ram, plan.kernel_fd, plan.initrd_fd, plan.protocol
            )
        self.machine.mark("kernel loaded")
        self.log.info(f"Kernel loaded using {kernel.protocol} boot protocol")
        self.write_boot_data(kernel, line, initrd)
        self.write_tables()
        self.kernel = kernel

    def command_line(self) -> bytes:
        plan, words = self.plan, self.plan.boot_args
        if (plan.protocol or self.kind.protocol) == loader.MULTIBOOT:
            words = f"{cmdline.as_word(plan.kernel_name)} {words or ''}".rstrip()
        if words is None:
            words = cmdline.DEFAULT if self.kind.is_linux else ""
        line = cmdline.Cmdline(words)
        if self.kind.is_linux:  # to any other kernel these would be arguments of its program
            line.add("pci=off")
            if plan.root:
                line.add(plan.root)
        for slot in self.machine.slots:
            line.add(slot.cmdline)
        return bytes(line)

    def write_boot_data(self, kernel: LoadedKernel, line: bytes, initrd: Initrd | None) -> None:
        ram, acpi = self.machine.ram, self.plan.acpi
        if kernel.protocol == loader.MULTIBOOT:
            multiboot.write_info(ram.memory, e820(ram.ranges, acpi=acpi), line, initrd)
        elif kernel.protocol == loader.PVH:
            loader.write_pvh_info(ram.memory, ram.ranges, line, initrd, acpi=acpi)
        else:
            loader.write_zero_page(ram.memory, kernel, ram.ranges, line, initrd, acpi=acpi)
        regs.write_tables(ram.memory, pvh=kernel.protocol != loader.LINUX64)

    def write_tables(self) -> None:
        machine, plan = self.machine, self.plan
        memory, pool = machine.ram.memory, SystemMemory()
        mptable.write(memory, pool, plan.vcpu_count)
        genid_gpa, clock_gpa = vmgenid.place(pool), vmclock.place(pool)
        genid_gsi, clock_gsi = self.take_gsi(), self.take_gsi()
        machine.vmgenid = vmgenid.VmGenId(memory, genid_gpa, self.interrupt(genid_gsi), os.urandom)
        machine.vmclock = vmclock.VmClock(memory, clock_gpa, self.interrupt(clock_gsi))
        machine.vmgenid.start()
        machine.vmclock.start()
        if plan.acpi:
            acpi.write(
                memory,
                pool,
                vcpu_count=plan.vcpu_count,
                virtio=[(slot.gpa, slot.gsi) for slot in machine.slots],
                vmgenid=(genid_gpa, genid_gsi),
                vmclock=(clock_gpa, clock_gsi),
            )

    # --------------------------------------------------------------- vCPUs

    def create_vcpus(self) -> None:
        machine, plan, kernel = self.machine, self.plan, self.kernel
        vcpus = self.make_vcpus()
        model = build_model(
            machine.kvm,
            vcpu_count=plan.vcpu_count,
            smt=plan.smt,
            tsc_khz=guest_tsc_khz(vcpus[0]),
            template=self.cpu_template(),
            tells_frequency=not self.kind.is_linux,
        )
        machine.template_msrs = [modifier.addr for modifier in model.msr_modifiers]
        for vcpu in vcpus:
            configure_vcpu(
                vcpu,
                model,
                entry=kernel.entry,
                pvh=kernel.protocol != loader.LINUX64,
                magic=multiboot.BOOT_MAGIC if kernel.protocol == loader.MULTIBOOT else 0,
            )
            self.add_thread(vcpu)

    def cpu_template(self) -> Template | None:
        """The custom template, or the static one for this host's CPU.

        Raises:
            ConfigError: the static template is not made for this CPU.
        """
        name = self.plan.static_template
        if name is None or self.plan.template is not None:
            return self.plan.template
        from pyrovm.arch.x86.cpuid.table import CpuidTable
        from pyrovm.arch.x86.templates_static import static_template, warning

        host = CpuidTable(self.machine.kvm.supported_cpuid())
        template = static_template(name, host)
        if text := warning(name, host):
            self.log.warn(text)
        return template
