"""The monitor of one Solo5 hvt guest: one vCPU, no interrupt controller, eight hypercalls.

The vCPU runs in the thread that calls :meth:`Tender.run`; a guest with a network has a second
thread for the ring.  Each segment of the image is protected in the host's address space as its
flags say, so that a guest that writes to its own text reaches memory that its host does not allow.
"""

from __future__ import annotations

import mmap
import os

from pyrovm.abi import kvm as abi
from pyrovm.errors import ConfigError, GuestError, HostError, PyrovmError, os_error
from pyrovm.host.eventfd import EventFd
from pyrovm.host.libc import mprotect
from pyrovm.host.mapping import Mapping, anonymous
from pyrovm.kvm.system import Kvm
from pyrovm.memory.guest_memory import GuestMemory, Region
from pyrovm.solo5 import boot, hypercalls, image
from pyrovm.solo5.host import BlockFile, HostSide, NetPort, open_net
from pyrovm.solo5.hypercalls import Hypercalls
from pyrovm.solo5.manifest import BLOCK, KINDS, NET
from pyrovm.solo5.window import Window

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping as MappingType

    from pyrovm.kvm.vcpu import Vcpu
    from pyrovm.kvm.vm import Vm
    from pyrovm.solo5.manifest import Device, Manifest
    from pyrovm.solo5.plan import Plan
    from pyrovm.solo5.ring_thread import RingThread

EFAULT = 14
DEFAULT_BLOCK_SIZE = 512


class Tender:
    """One guest; everything it holds is released by ``close``.

    Raises:
        ConfigError: the image or an option cannot be.
        HostError: the host refused something.
    """

    def __init__(self, plan: Plan, warn: Callable[[str], object]) -> None:
        self._warn = warn
        self._closers: list[Callable[[], object]] = []
        self._ring: RingThread | None = None
        try:
            self._build(plan)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Tender:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release everything, in reverse order."""
        while self._closers:
            self._closers.pop()()

    # ----------------------------------------------------------------- building

    def _build(self, plan: Plan) -> None:
        boot.check_memory(plan.mem_size)
        fd = self._open_image(plan.image)
        loaded = self._parse(fd, plan)
        blocks, nets = self._attach_devices(plan, loaded.manifest)
        kvm = Kvm(plan.kvm_device)
        self._closers.append(kvm.close)
        vm = kvm.create_vm()
        self._closers.append(vm.close)
        ring_gpa = self._ring_gpa(kvm, plan.mem_size, nets)
        mapped = plan.mem_size + (boot.HUGE_PAGE if ring_gpa is not None else 0)
        ram = anonymous(mapped)
        self._closers.append(ram.close)
        memory = GuestMemory([Region(0, ram.view, ram.address)])
        self._closers.append(memory.release)
        vm.set_memory(0, 0, mapped, ram.address)
        self._vcpu = vm.create_vcpu(0)
        self._closers.append(self._vcpu.close)
        self._load(fd, loaded, memory)
        boot.write_tables(memory, mapped)
        boot.write_boot_info(
            memory,
            loaded,
            mem_size=plan.mem_size,
            tsc_hz=_tsc_hz(self._vcpu),
            cmdline=plan.arguments,
            ring_gpa=ring_gpa,
        )
        self._vcpu.set_cpuid(kvm.supported_cpuid())
        self._vcpu.set_sregs(boot.boot_sregs(self._vcpu.sregs()))
        self._vcpu.set_regs(boot.boot_regs(loaded.entry, plan.mem_size))
        protected = _protect(loaded, ram)
        window = Window(memory, plan.mem_size, protected)
        self._interrupt = EventFd()
        self._closers.append(self._interrupt.close)
        self._mem_size = plan.mem_size
        self._hypercalls = Hypercalls(window, blocks, nets, HostSide(nets, self._interrupt.fd))
        if ring_gpa is not None:
            self._start_ring(vm, memory, window, nets, ring_gpa)

    def _open_image(self, path: str) -> int:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise HostError.wrap(f"{path}: Could not open", error) from None
        self._closers.append(lambda: os.close(fd))
        return fd

    def _parse(self, fd: int, plan: Plan) -> image.Image:
        try:
            return image.parse(
                lambda offset, size: os.pread(fd, size, offset), os.fstat(fd).st_size, plan.mem_size
            )
        except ConfigError as error:
            raise type(error)(f"{plan.image}: {error}") from None
        except OSError as error:
            raise HostError.wrap(f"{plan.image}: Could not read", error) from None

    def _attach_devices(
        self, plan: Plan, manifest: Manifest
    ) -> tuple[dict[int, BlockFile], dict[int, NetPort]]:
        for options, kind in (
            (plan.blocks, BLOCK),
            (plan.block_sizes, BLOCK),
            (plan.nets, NET),
            (plan.macs, NET),
        ):
            for name in options:
                if manifest.find(name, kind) is None:
                    declared = ", ".join(repr(d.name) for d in manifest.of_kind(kind))
                    raise ConfigError(
                        f"Resource not declared in manifest: '{name}' ({KINDS[kind]} devices "
                        f"declared: {declared or 'none'})"
                    )
        for device in manifest.devices:
            if device.name not in (plan.blocks if device.kind == BLOCK else plan.nets):
                what = KINDS[device.kind]
                raise ConfigError(
                    f"Resource declared in manifest but not attached: '{device.name}' "
                    f"(--{what}:{device.name}={'FILE' if device.kind == BLOCK else 'TAP'})"
                )
        blocks = {d.handle: self._attach_block(plan, d) for d in manifest.of_kind(BLOCK)}
        nets = {d.handle: self._attach_net(plan, d) for d in manifest.of_kind(NET)}
        if len({port.fd for port in nets.values()}) < len(nets):
            raise ConfigError("two network devices are attached to the same descriptor")
        return blocks, nets

    def _attach_block(self, plan: Plan, device: Device) -> BlockFile:
        size = plan.block_sizes.get(device.name, DEFAULT_BLOCK_SIZE)
        file = BlockFile(device.name, plan.blocks[device.name], size, self._warn)
        self._closers.append(file.close)
        device.capacity, device.block_size, device.attached = file.capacity, size, True
        return file

    def _attach_net(self, plan: Plan, device: Device) -> NetPort:
        port = open_net(device.name, plan.nets[device.name])
        self._closers.append(port.close)
        device.mac = plan.macs.get(device.name) or _random_mac()
        device.mtu, device.attached = port.mtu, True
        return port

    def _ring_gpa(self, kvm: Kvm, mem_size: int, nets: MappingType[int, NetPort]) -> int | None:
        """Where the network ring goes: above the guest's memory, if page tables reach there."""
        if not nets or mem_size == boot.MAX_MEMORY:
            return None
        return mem_size if kvm.check_extension(abi.KVM_CAP_IOEVENTFD) else None

    def _load(self, fd: int, loaded: image.Image, memory: GuestMemory) -> None:
        for segment in loaded.segments:
            view = memory.writable(segment.gpa, segment.file_size)
            done = 0
            while done < segment.file_size:
                count = os.preadv(fd, [view[done:]], segment.file_offset + done)
                if count <= 0:
                    raise ConfigError(f"the image ended {segment.file_size - done} bytes early")
                done += count

    def _start_ring(
        self,
        vm: Vm,
        memory: GuestMemory,
        window: Window,
        nets: MappingType[int, NetPort],
        ring_gpa: int,
    ) -> None:
        from pyrovm.solo5.ring import KICK_PORT, SIZE, Ring
        from pyrovm.solo5.ring_thread import RingThread, memory_barrier

        ring = Ring(memory.slice(ring_gpa, SIZE), window, nets, memory_barrier)
        self._closers.append(ring.release)
        self._ring = RingThread(ring, self._stop_vcpu)
        self._closers.append(self._ring.close)
        vm.ioeventfd(self._ring.bell.fd, KICK_PORT, 4, pio=True)
        self._ring.start()

    def _stop_vcpu(self) -> None:
        """Have :meth:`run` look at the ring's failure; called in the ring's thread."""
        self._vcpu.set_immediate_exit(True)
        self._interrupt.signal()

    # ------------------------------------------------------------------ running

    def run(self) -> int:
        """Run the guest to its end; its exit status.

        Raises:
            GuestError: the guest broke a rule, or stopped without saying how it ended.
            HostError: the host cannot go on.
        """
        vcpu = self._vcpu
        if self._ring is not None:
            self._ring.watch_vcpu()
        while True:
            try:
                vcpu.run()
            except InterruptedError:
                if self._ring is not None and self._ring.failure is not None:
                    raise self._ring.failure from None
                continue
            except OSError as error:
                if error.errno == EFAULT:
                    raise self._translation_fault() from None
                raise HostError(f"KVM_RUN failed: {os_error(error)}", error.errno or 0) from None
            if vcpu.exit_reason[0] != abi.KVM_EXIT_IO:
                raise self._unhandled()
            if not self._port_access():
                return self._hypercalls.exit_status & 0xFF

    def _port_access(self) -> bool:
        """Serve an exit for a port; whether the guest goes on.  hot: per hypercall."""
        run = self._vcpu.run_struct
        port = run.io_port
        number = port - hypercalls.PORT
        if (
            run.io_direction != abi.KVM_EXIT_IO_OUT
            or run.io_size != 4
            or run.io_count != 1
            or not hypercalls.WALLTIME <= number <= hypercalls.HALT
        ):
            raise GuestError(f"Invalid guest port access: port={port:#x}{self._where()}")
        at = run.io_data_offset
        return self._hypercalls.call(number, int.from_bytes(self._vcpu.page[at : at + 4], "little"))

    def _unhandled(self) -> PyrovmError:
        run, reason = self._vcpu.run_struct, self._vcpu.exit_reason[0]
        if reason == abi.KVM_EXIT_MMIO and run.mmio_phys_addr < self._mem_size:
            # KVM's own emulator meets a protected page and takes it for a device's.
            return self._translation_fault()
        if reason == abi.KVM_EXIT_MMIO:
            text = f"access to the address {run.mmio_phys_addr:#x}, where no memory is"
        elif reason == abi.KVM_EXIT_SHUTDOWN:
            text = "triple fault"
        elif reason == abi.KVM_EXIT_HLT:
            text = "the guest halted, and nothing can wake it"
        elif reason == abi.KVM_EXIT_FAIL_ENTRY:
            code = run.fail_entry_hardware_entry_failure_reason
            text = f"entry failure: hw_entry_failure_reason={code:#x}"
        elif reason == abi.KVM_EXIT_INTERNAL_ERROR:
            text = f"internal error exit: suberror={run.internal_suberror:#x}{self._instruction()}"
        else:
            text = f"unhandled exit: exit_reason={reason:#x}"
        return GuestError(f"KVM: {text}{self._where()}")

    def _instruction(self) -> str:
        """What KVM could not emulate, where it says so."""
        run = self._vcpu.run_struct
        if run.internal_suberror != abi.KVM_INTERNAL_ERROR_EMULATION:
            return ""
        size = min(run.emulation_failure_insn_size, len(run.emulation_failure_insn_bytes))
        code = bytes(run.emulation_failure_insn_bytes[:size]).hex(" ") if size else "unknown"
        return (
            f": it cannot emulate the instruction {code}; a KVM without hardware virtualization "
            "('pyrovm doctor' tells) interprets such guests, 'pyrovm lab run -- ...' runs them"
        )

    def _translation_fault(self) -> GuestError:
        return GuestError(f"KVM: host/guest translation fault{self._where()}")

    def _where(self) -> str:
        return f", rip={self._vcpu.regs().rip:#x}"


def _tsc_hz(vcpu: Vcpu) -> int:
    """The frequency by which the guest reckons time."""
    try:
        return vcpu.tsc_khz() * 1000
    except HostError as error:
        raise HostError(f"KVM: host TSC is unstable, cannot continue ({error})") from None


def _protect(loaded: image.Image, ram: Mapping) -> list[tuple[int, int]]:
    """Take the host's right to write from read-only segments; their (start, end)."""
    ranges = [(s.start, s.end) for s in loaded.segments if not s.is_writable]
    for start, end in ranges:
        try:
            mprotect(ram.address + start, end - start, mmap.PROT_READ)
        except OSError as error:
            raise HostError.wrap("Cannot protect the guest's text", error) from None
    return ranges


def _random_mac() -> bytes:
    """A locally administered unicast address."""
    raw = bytearray(os.urandom(6))
    raw[0] = raw[0] & 0xFE | 0x02
    return bytes(raw)
