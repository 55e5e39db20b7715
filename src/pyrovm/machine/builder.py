"""From a blueprint to a machine that is ready to run, in the order in which things need each other.

Memory slots come before the interrupt chip, since on a running chip every new slot waits for a
grace period of the kernel; devices come before the command line and the ACPI tables, which
announce them; vCPUs come last.
"""

from __future__ import annotations

import os
from time import monotonic_ns, process_time_ns

from pyrovm.abi.kvm import KVM_CAP_READONLY_MEM
from pyrovm.arch.x86 import layout, mptable, regs
from pyrovm.arch.x86.acpi import tables as acpi
from pyrovm.arch.x86.system_memory import SystemMemory
from pyrovm.boot import cmdline, loader, multiboot
from pyrovm.boot.identify import identify
from pyrovm.devices import vmclock, vmgenid
from pyrovm.devices.i8042 import I8042
from pyrovm.devices.serial import LSR, Serial
from pyrovm.errors import ConfigError
from pyrovm.host.eventfd import EventFd
from pyrovm.host.mapping import anonymous
from pyrovm.kvm.system import Kvm
from pyrovm.machine.bus import Bus, new_lock
from pyrovm.machine.console import SerialInput, SerialOutput, quick_sender
from pyrovm.machine.machine import Machine
from pyrovm.machine.prepared import load_files, reader_at
from pyrovm.machine.probe import require_linux_capable
from pyrovm.machine.ram import Ram
from pyrovm.machine.vcpu_setup import (
    build_model,
    configure_vcpu,
    guest_tsc_khz,
    require_capabilities,
)
from pyrovm.machine.vcpu_thread import VcpuThread, install_kick_signal
from pyrovm.machine.virtio_slot import VirtioSlot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.arch.x86.template import Template
    from pyrovm.boot.loader import Initrd, LoadedKernel
    from pyrovm.machine.blueprint import Blueprint
    from pyrovm.machine.loop import EventLoop
    from pyrovm.machine.machine import StopReason
    from pyrovm.machine.prepared import Prepared

MAX_MMIO_DEVICES = layout.GSI_LAST_LEGACY - layout.GSI_FIRST_DEVICE + 1 - 2  # VMGenID, VMClock

COM1, COM1_PORTS = 0x3F8, 8
KEYBOARD, KEYBOARD_PORTS = 0x60, 5


class Log:
    """Where the machine reports to: ``warn`` is for what a guest can provoke, so it is limited.

    ``name_thread`` is called in every new thread.
    """

    __slots__ = ("info", "name_thread", "warn")

    def __init__(
        self,
        info: Callable[[str], object],
        warn: Callable[[str], object],
        name_thread: Callable[[str], object] = lambda _name: None,
    ) -> None:
        self.info = info
        self.warn = warn
        self.name_thread = name_thread


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


class _Builder:
    """The steps; each leaves its part in the machine and its undoing on the closers."""

    def __init__(self, plan: Blueprint, machine: Machine, log: Log) -> None:
        self.plan = plan
        self.machine = machine
        self.log = log
        self.kind = identify(reader_at(plan.kernel_fd))
        self.prepared: Prepared | None = None
        self.next_gsi = layout.GSI_FIRST_DEVICE

    def run(self, prepared: Prepared | None) -> None:
        self.open_vm(prepared)
        self.allocate_memory()
        self.create_chips()
        self.attach_legacy_devices()
        if not self.kind.is_linux:
            from pyrovm.machine.pc_devices import attach_pc_devices

            attach_pc_devices(self.machine)
        self.attach_virtio_devices()
        self.load()
        self.create_vcpus()

    # -------------------------------------------------------------- the VM

    def open_vm(self, prepared: Prepared | None) -> None:
        plan, machine = self.plan, self.machine
        if prepared is None:
            machine.kvm = Kvm(plan.kvm_device)
            machine.on_close(machine.kvm.close)
        else:
            machine.kvm, self.prepared = prepared.kvm, prepared
            machine.on_close(prepared.close)
        if plan.require_linux and self.kind.is_linux:
            require_linux_capable(machine.kvm)
        require_capabilities(machine.kvm, plan.capabilities)
        if prepared is None:
            machine.vm = machine.kvm.create_vm()
            machine.on_close(machine.vm.close)
        else:
            machine.vm = prepared.vm
        machine.bus = Bus()

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

    def map_register_pages(self) -> None:
        """One page of registers for each virtio device, in one mapping.

        The guest reads them directly, where KVM has read-only slots: then only writes leave the
        guest (virtio/mmio.py).
        """
        machine = self.machine
        count = max(1, len(self.plan.devices))
        pages = anonymous(count * layout.VIRTIO_MMIO_SIZE)
        self.register_pages = pages.view
        if machine.kvm.check_extension(KVM_CAP_READONLY_MEM):
            machine.ram.add(layout.VIRTIO_MMIO, pages, readonly=True, for_devices=False)
        else:
            machine.on_close(pages.close)

    def create_chips(self) -> None:
        vm = self.machine.vm
        vm.set_tss_addr(layout.KVM_TSS)
        vm.create_irqchip()
        vm.create_pit2()

    # ------------------------------------------------------------- devices

    def interrupt(self, gsi: int) -> Callable[[], None]:
        """A callable that pulses interrupt line ``gsi``."""
        line = EventFd()
        self.machine.on_close(line.close)
        self.machine.vm.irqfd(line.fd, gsi)
        return line.signal

    def take_gsi(self) -> int:
        """The next free interrupt line for a device.

        Raises:
            ConfigError: all are taken.
        """
        if self.next_gsi > layout.GSI_LAST_LEGACY:
            raise ConfigError(
                "Could not allocate GSI: The requested resource is not available. "
                f"At most {MAX_MMIO_DEVICES} virtio devices are possible."
            )
        self.next_gsi += 1
        return self.next_gsi - 1

    def attach_legacy_devices(self) -> None:
        machine, plan = self.machine, self.plan.serial
        machine.output = SerialOutput(
            plan.output_fd,
            bucket=plan.bucket,
            output_filter=plan.output_filter,
            owned=plan.output_owned,
        )
        machine.on_close(machine.output.close)
        machine.serial_lock, machine.i8042_lock = new_lock(), new_lock()
        machine.serial = Serial(
            self.interrupt(layout.GSI_SERIAL), machine.output, machine.serial_has_room
        )
        machine.output.on_dropped = machine.serial.count_dropped
        machine.output.on_lost = machine.serial.count_lost
        self.hold_output_back()
        machine.bus.add_ports(COM1, COM1_PORTS, machine.serial, machine.serial_lock)
        self.shorten_serial()
        machine.i8042 = I8042(self.interrupt(layout.GSI_KEYBOARD), machine.reset_pressed)
        machine.bus.add_ports(KEYBOARD, KEYBOARD_PORTS, machine.i8042, machine.i8042_lock)
        if plan.input_fd is not None:
            machine.input = SerialInput(
                machine.loop,
                plan.input_fd,
                machine.serial,
                machine.serial_lock,
                input_filter=plan.input_filter,
                on_end=plan.on_input_end,
            )
            machine.on_close(machine.input.close)
        if self.plan.boot_timer is not None:
            self.attach_boot_timer(self.plan.boot_timer)

    def shorten_serial(self) -> None:
        """A console is two exits for each byte: they go the shortest way."""
        machine, bus = self.machine, self.machine.bus
        bus.add_byte_port(COM1 + LSR, machine.serial.line_status, None)
        if machine.output is not None and self.plan.serial.bucket is None:
            send = quick_sender(machine.serial, machine.output, machine.serial_lock)
            bus.add_byte_port(COM1, None, send)

    def hold_output_back(self) -> None:
        """Have the loop write, a little later, what is no line of output."""
        machine, output = self.machine, self.machine.output
        if output is None:
            return
        lock = machine.serial_lock

        def flush() -> None:
            with lock:
                output.flush_late()

        timer = machine.loop.timer(flush)
        output.later = lambda: machine.loop.post(lambda: timer.arm(output.HOLD))

    def attach_boot_timer(self, booted: Callable[[], object]) -> None:
        from pyrovm.devices.boot_timer import BootTimer

        machine = self.machine

        def now() -> tuple[int, int]:
            return monotonic_ns() // 1000, process_time_ns() // 1000

        def log(line: str) -> None:
            machine.mark("init")
            self.log.info(line)
            booted()

        machine.bus.add_mmio(layout.BOOT_TIMER, 0x1000, BootTimer(now, log))

    def attach_virtio_devices(self) -> None:
        machine = self.machine
        for index, device in enumerate(self.plan.devices):
            gsi = self.take_gsi()
            start = index * layout.VIRTIO_MMIO_SIZE
            slot = VirtioSlot(
                device,
                vm=machine.vm,
                memory=machine.ram.memory,
                loop=machine.loop,
                gpa=layout.VIRTIO_MMIO + start,
                gsi=gsi,
                page=self.register_pages[start : start + layout.VIRTIO_MMIO_SIZE],
                warn=self.log.warn,
            )
            machine.slots.append(slot)
            machine.bus.add_mmio(slot.gpa, layout.VIRTIO_MMIO_SIZE, slot, slot.lock)

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
            e820 = layout.e820(ram.ranges, acpi=acpi)
            multiboot.write_info(ram.memory, e820, line, initrd)
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
        install_kick_signal()
        vcpus = []
        for index in range(plan.vcpu_count):
            vcpu = machine.vm.create_vcpu(index)
            machine.on_close(vcpu.close)
            vcpus.append(vcpu)
        model = build_model(
            machine.kvm,
            vcpu_count=plan.vcpu_count,
            smt=plan.smt,
            tsc_khz=guest_tsc_khz(vcpus[0]),
            template=self.cpu_template(),
            tells_frequency=not self.kind.is_linux,
        )
        machine.cpu_model = model
        for vcpu in vcpus:
            configure_vcpu(
                vcpu,
                model,
                entry=kernel.entry,
                pvh=kernel.protocol != loader.LINUX64,
                magic=multiboot.BOOT_MAGIC if kernel.protocol == loader.MULTIBOOT else 0,
            )
            machine.threads.append(
                VcpuThread(
                    vcpu, machine.bus, machine.vcpu_ended, self.log.warn, self.log.name_thread
                )
            )

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
