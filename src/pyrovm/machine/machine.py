"""The running microVM: owns everything, and is the only thing that starts, pauses and ends it."""

from __future__ import annotations

from time import monotonic_ns

from pyrovm.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable

    from pyrovm.devices.cmos import Cmos
    from pyrovm.devices.i8042 import I8042
    from pyrovm.devices.serial import Serial
    from pyrovm.devices.vmclock import VmClock
    from pyrovm.devices.vmgenid import VmGenId
    from pyrovm.kvm.system import Kvm
    from pyrovm.kvm.vm import Vm
    from pyrovm.machine.bus import Bus
    from pyrovm.machine.console import SerialInput, SerialOutput
    from pyrovm.machine.dirty import DirtyPages
    from pyrovm.machine.loop import EventLoop
    from pyrovm.machine.ram import Ram
    from pyrovm.machine.vcpu_thread import VcpuOutcome, VcpuThread
    from pyrovm.machine.virtio_slot import VirtioSlot
    from pyrovm.virtio.device import VirtioDevice


class StopReason:
    """Why the machine ended: ``ok`` means by the guest's own wish."""

    __slots__ = ("ok", "text")

    def __init__(self, ok: bool, text: str) -> None:
        self.ok = ok
        self.text = text


class Machine:
    """Built by :mod:`pyrovm.machine.builder`, part by part; ``close`` undoes what was built.

    ``on_stop`` is called once, in the loop, when the guest or a fault ended the machine.
    ``timeline`` holds moments in ns of the monotonic clock.
    """

    def __init__(self, loop: EventLoop, on_stop: Callable[[StopReason], None]) -> None:
        self.loop = loop
        self._on_stop = on_stop
        self.kvm: Kvm
        self.vm: Vm
        self.ram: Ram
        self.bus: Bus
        self.serial: Serial
        self.serial_lock: LockType
        self.i8042: I8042
        self.i8042_lock: LockType
        self.cmos: Cmos | None = None  # of a PC, for kernels other than Linux
        self.output: SerialOutput | None = None
        self.input: SerialInput | None = None
        self.slots: list[VirtioSlot] = []
        self.threads: list[VcpuThread] = []
        self.vmgenid: VmGenId
        self.vmclock: VmClock
        self.template_msrs: list[int] = []  # what a CPU template has changed, for snapshots
        self.timeline: dict[str, int] = {}
        self.stopped: StopReason | None = None
        self.is_paused = False
        self._dirty: DirtyPages | None = None
        self._closers: list[Callable[[], object]] = []

    @property
    def dirty(self) -> DirtyPages | None:
        """What has changed since the last snapshot, where that is tracked."""
        if self._dirty is None and self.ram.track_dirty_pages:
            from pyrovm.machine.dirty import DirtyPages

            self._dirty = DirtyPages(self.vm, self.ram)
        return self._dirty

    def on_close(self, closer: Callable[[], object]) -> None:
        """Have ``closer`` called by :meth:`close`, in reverse order."""
        self._closers.append(closer)

    def on_close_last(self, closer: Callable[[], object]) -> None:
        """Have ``closer`` called by :meth:`close` after all others so far."""
        self._closers.insert(0, closer)

    def mark(self, moment: str) -> None:
        """Note the time of the first occurrence of ``moment``."""
        self.timeline.setdefault(moment, monotonic_ns())

    # -------------------------------------------------------------- life cycle

    def start(self) -> None:
        """Let all vCPUs run their first instruction."""
        for thread in self.threads:
            thread.start()
        self.mark("first guest instruction")
        for thread in self.threads:
            thread.resume()

    def start_paused(self) -> None:
        """Start all threads without letting a vCPU run; :meth:`resume` does, the first time too.

        The devices' slots stand still already.
        """
        self.is_paused = True
        for thread in self.threads:
            thread.start()

    def pause(self) -> None:
        """Stop every vCPU between two instructions, then every device; idempotent.

        Raises:
            HostError: a vCPU did not stop.
        """
        if self.is_paused:
            return
        for thread in self.threads:
            thread.request_park()
        for thread in self.threads:
            thread.park()
        for slot in self.slots:
            slot.pause()
        self.is_paused = True

    def resume(self) -> int:
        """Let devices, then vCPUs, go on; idempotent.

        Returns how many vCPUs could not be told of the pause, having no kvmclock (yet).
        """
        if not self.is_paused:
            return 0
        without_clock = 0
        self.is_paused = False
        for slot in self.slots:
            slot.resume()
        for thread in self.threads:
            try:
                thread.vcpu.kvmclock_ctrl()
            except HostError:
                without_clock += 1
        self.mark("first guest instruction")
        for thread in self.threads:
            thread.resume()
        return without_clock

    def vcpu_ended(self, outcome: VcpuOutcome) -> None:
        """A vCPU's loop is over; called in its thread."""
        self.loop.post(
            lambda: self.end(StopReason(outcome.ok, f"vCPU {outcome.index}: {outcome.reason}"))
        )

    def reset_pressed(self) -> None:
        """The guest wrote 0xfe to the keyboard controller; called in a vCPU's thread."""
        self.loop.post(lambda: self.end(StopReason(True, "the guest reset the machine")))

    def power_off(self, text: str, *, ok: bool = True) -> None:
        """The guest ended the machine, by ``text``; called in a vCPU's thread."""
        self.loop.post(lambda: self.end(StopReason(ok, text)))

    def serial_has_room(self) -> None:
        """The guest has read from the serial port; called in a vCPU's thread."""
        if self.input is not None:
            self.input.on_room()

    def end(self, reason: StopReason) -> None:
        """The machine is over; only the first reason counts."""
        if self.stopped is None:
            self.stopped = reason
            self.mark("stopped")
            self._on_stop(reason)

    def close(self, *, devices: bool = True) -> None:
        """Stop all threads and release everything; ``devices`` False keeps those for another try.

        Raises:
            HostError: a vCPU did not stop.
        """
        for thread in self.threads:
            thread.request_park()
        for thread in self.threads:
            thread.stop()
        self.threads.clear()
        for slot in self.slots:
            slot.close()
            if devices:
                slot.device.close()
        self.slots.clear()
        for closer in reversed(self._closers):
            closer()
        self._closers.clear()

    # ----------------------------------------------------------------- devices

    def send_ctrl_alt_del(self) -> None:
        """Press the three keys.

        Raises:
            StateError: the guest has not read earlier ones.
        """
        with self.i8042_lock:
            self.i8042.trigger_ctrl_alt_del()

    def slot_of(self, device: VirtioDevice) -> VirtioSlot:
        """The slot in which ``device`` sits."""
        return next(slot for slot in self.slots if slot.device is device)

    def memory_changed(self, source: VirtioDevice) -> None:
        """``source``, whose lock is held, has plugged or unplugged memory: tell the others."""
        for slot in self.slots:
            if slot.device is not source:
                slot.memory_changed()

    def exits(self) -> dict[int, int]:
        """How often the vCPUs left the guest, by KVM's exit reason."""
        counts: dict[int, int] = {}
        for thread in self.threads:
            for reason, count in enumerate(thread.exits):
                if count:
                    counts[reason] = counts.get(reason, 0) + count
        return counts
