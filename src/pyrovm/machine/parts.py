"""The parts of a machine that are the same whether it boots or goes on from a snapshot.

Memory slots come before the interrupt chip, since on a running chip every new slot waits for a
grace period of the kernel; vCPUs come last.
"""

from __future__ import annotations

from time import monotonic_ns, process_time_ns

from pyrovm.abi.kvm import KVM_CAP_READONLY_MEM
from pyrovm.arch.x86 import layout
from pyrovm.devices.i8042 import I8042
from pyrovm.devices.serial import LSR, Serial
from pyrovm.errors import ConfigError
from pyrovm.host.eventfd import EventFd
from pyrovm.host.mapping import anonymous
from pyrovm.kvm.system import Kvm
from pyrovm.machine.bus import Bus, new_lock
from pyrovm.machine.console import SerialInput, SerialOutput, quick_sender
from pyrovm.machine.probe import require_linux_capable
from pyrovm.machine.vcpu_setup import require_capabilities
from pyrovm.machine.vcpu_thread import VcpuThread, install_kick_signal
from pyrovm.machine.virtio_slot import VirtioSlot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.kvm.vcpu import Vcpu
    from pyrovm.machine.blueprint import Blueprint
    from pyrovm.machine.machine import Machine
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


class Parts:
    """The steps; each leaves its part in the machine and its undoing on the closers.

    ``is_linux``: what other kernels look for on a PC is left out.
    """

    def __init__(self, plan: Blueprint, machine: Machine, log: Log, *, is_linux: bool) -> None:
        self.plan = plan
        self.machine = machine
        self.log = log
        self.is_linux = is_linux
        self.prepared: Prepared | None = None
        self.next_gsi = layout.GSI_FIRST_DEVICE

    # -------------------------------------------------------------- the VM

    def open_vm(self, prepared: Prepared | None) -> None:
        plan, machine = self.plan, self.machine
        if prepared is None:
            machine.kvm = Kvm(plan.kvm_device)
            machine.on_close(machine.kvm.close)
        else:
            machine.kvm, self.prepared = prepared.kvm, prepared
            machine.on_close(prepared.close)
        if plan.require_linux and self.is_linux:
            require_linux_capable(machine.kvm)
        require_capabilities(machine.kvm, plan.capabilities)
        if prepared is None:
            machine.vm = machine.kvm.create_vm()
            machine.on_close(machine.vm.close)
        else:
            machine.vm = prepared.vm
        machine.bus = Bus()

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
        if not self.is_linux:
            from pyrovm.machine.pc_devices import attach_pc_devices

            attach_pc_devices(machine)

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

    # --------------------------------------------------------------- vCPUs

    def make_vcpus(self) -> list[Vcpu]:
        """All vCPUs, without any state yet."""
        machine = self.machine
        install_kick_signal()
        vcpus = []
        for index in range(self.plan.vcpu_count):
            vcpu = machine.vm.create_vcpu(index)
            machine.on_close(vcpu.close)
            vcpus.append(vcpu)
        return vcpus

    def add_thread(self, vcpu: Vcpu) -> None:
        """Give ``vcpu`` the thread that will run it."""
        machine, log = self.machine, self.log
        machine.threads.append(
            VcpuThread(vcpu, machine.bus, machine.vcpu_ended, log.warn, log.name_thread)
        )
