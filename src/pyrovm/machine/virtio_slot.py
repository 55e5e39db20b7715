"""Where a pure virtio device meets the real machine: its page, doorbells, interrupt and lock.

One slot is one device on the virtio-mmio bus.  The vCPU threads reach it through the bus (register
writes), the event loop through ioeventfds and whatever descriptors the device watches.  Both call
under the slot's lock, and whatever goes wrong ends here: the device is marked NEEDS_RESET, whether
the guest broke a rule or the host's side of the device is gone.
"""

from __future__ import annotations

from pyrovm.abi.virtio import VIRTIO_MMIO_QUEUE_NOTIFY
from pyrovm.arch.x86.layout import VIRTIO_MMIO_SIZE
from pyrovm.errors import GuestError, HostError
from pyrovm.host.barrier import make_barrier
from pyrovm.host.eventfd import EventFd
from pyrovm.machine.bus import new_lock
from pyrovm.virtio.mmio import VirtioMmio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyrovm.kvm.vm import Vm
    from pyrovm.machine.loop import EventLoop, LoopTimer
    from pyrovm.memory.guest_memory import GuestMemory
    from pyrovm.virtio.device import VirtioDevice


class DeviceLoop:
    """The event loop as one device sees it.

    Callbacks run under the device's lock, an error in one breaks the device and nothing else, and
    all of them stand still while the machine is paused.
    """

    def __init__(self, loop: EventLoop, guard: Callable[[Callable[[], None]], None]) -> None:
        self._loop = loop
        self._guard = guard
        self._watched: dict[int, tuple[Callable[[int], None], int]] = {}
        self.is_suspended = False
        self.armed: set[DeviceTimer] = set()  # not all: a guest may reset its device for ever

    def watch(self, fd: int, callback: Callable[[int], None], events: int = 1) -> None:
        """Call ``callback(events)`` when ``fd`` is ready."""
        self._watched[fd] = (callback, events)
        if not self.is_suspended:
            self._register(fd)

    def _register(self, fd: int) -> None:
        callback, events = self._watched[fd]
        self._loop.watch(fd, lambda ready: self._guard(lambda: callback(ready)), events)

    def modify(self, fd: int, events: int) -> None:
        """Change what a watched ``fd`` is watched for; 0 mutes it."""
        callback, known = self._watched[fd]
        if known != events:
            self._watched[fd] = (callback, events)
            if not self.is_suspended:
                self._loop.modify(fd, events)

    def unwatch(self, fd: int) -> None:
        """Stop watching; unknown descriptors are ignored."""
        if self._watched.pop(fd, None) is not None:
            self._loop.unwatch(fd)

    def timer(self, callback: Callable[[], None]) -> DeviceTimer:
        """A new timer, not armed."""
        return DeviceTimer(self, self._loop, lambda: self._guard(callback))

    def suspend(self) -> None:
        """Deliver nothing until :meth:`resume`."""
        self.is_suspended = True
        for fd in self._watched:
            self._loop.unwatch(fd)
        for timer in self.armed:
            timer.suspend()

    def resume(self) -> None:
        """Deliver again; what became ready meanwhile is delivered in the next round."""
        self.is_suspended = False
        for fd in self._watched:
            self._register(fd)
        for timer in self.armed:
            timer.resume()

    def close(self) -> None:
        """Drop every descriptor and timer."""
        for fd in list(self._watched):
            self.unwatch(fd)
        for timer in list(self.armed):
            timer.disarm()


class DeviceTimer:
    """A one-shot timer that stands still, with the time it had left, while suspended."""

    def __init__(
        self, device_loop: DeviceLoop, loop: EventLoop, callback: Callable[[], None]
    ) -> None:
        self._device_loop = device_loop
        self._callback = callback
        self._timer: LoopTimer = loop.timer(self._fire)
        self._left: float | None = None

    def _fire(self) -> None:
        self._device_loop.armed.discard(self)
        self._callback()

    def arm(self, seconds: float) -> None:
        """Fire once, ``seconds`` from now; replaces an earlier setting."""
        self._device_loop.armed.add(self)
        if self._device_loop.is_suspended:
            self._left = seconds
        else:
            self._timer.arm(seconds)

    def disarm(self) -> None:
        """Do not fire."""
        self._device_loop.armed.discard(self)
        self._left = None
        self._timer.disarm()

    @property
    def armed(self) -> bool:
        """Whether it will fire."""
        return self in self._device_loop.armed

    def suspend(self) -> None:
        """Stop the clock."""
        from time import monotonic

        if self._timer.armed:
            self._left = max(0.0, self._timer.deadline - monotonic())
            self._timer.disarm()

    def resume(self) -> None:
        """Let the clock run on."""
        if self._left is not None:
            self._timer.arm(self._left)
            self._left = None


class VirtioSlot:
    """One virtio-mmio device: window at ``gpa``, interrupt ``gsi``."""

    def __init__(
        self,
        device: VirtioDevice,
        *,
        vm: Vm,
        memory: GuestMemory,
        loop: EventLoop,
        gpa: int,
        gsi: int,
        page: memoryview,
        warn: Callable[[str], object],
    ) -> None:
        self.device = device
        self.gpa = gpa
        self.gsi = gsi
        self.lock = new_lock()
        self.interrupts = 0
        self._is_restored = False
        self._vm = vm
        self._loop = loop
        self._irq = EventFd()
        vm.irqfd(self._irq.fd, gsi)
        self.device_loop = DeviceLoop(loop, self._guarded)
        self._doorbells = [EventFd() for _ in device.queue_sizes]
        self.transport = VirtioMmio(
            device,
            memory,
            self.device_loop,
            raise_irq=self._raise_irq,
            barrier=make_barrier(),
            warn=warn,
            page=page,
            kicks=[bell.fd for bell in self._doorbells],
            calls=[self._irq.fd] * len(self._doorbells),
        )
        for index, bell in enumerate(self._doorbells):
            vm.ioeventfd(bell.fd, gpa + VIRTIO_MMIO_QUEUE_NOTIFY, 4, datamatch=index)
            self.device_loop.watch(bell.fd, self._doorbell_handler(index, bell))

    def _raise_irq(self) -> None:
        self.interrupts += 1
        self._irq.signal()

    def _doorbell_handler(self, index: int, bell: EventFd) -> Callable[[int], None]:
        transport, device = self.transport, self.device

        def rang(_events: int) -> None:
            bell.drain()
            if device.active is not None and transport.queues[index].ready:
                device.process(index)

        return rang

    def _guarded(self, call: Callable[[], None]) -> None:
        with self.lock:
            try:
                call()
            except (GuestError, HostError) as error:
                self.transport.fail(str(error))

    # The bus calls these under ``lock``.

    def read(self, offset: int, size: int) -> int:
        """A register read that was not served by the read-only page."""
        return self.transport.read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """A register write."""
        was_active = self.transport.is_active
        self.transport.write(offset, size, value)
        if self.transport.is_active and not was_active:
            # Drivers may ring before they say DRIVER_OK (Linux's balloon does), when nobody
            # listens.  This also wakes the loop for timers that were just armed, in this thread.
            self._loop.post(self._first_look)

    def _first_look(self) -> None:
        if not self.device_loop.is_suspended:  # else the resume looks
            self.kick()

    def kick(self) -> None:
        """Process what waits in the queues, after a resume or a restore."""
        self._guarded(self.device.kick)

    def memory_changed(self) -> None:
        """Guest memory has come or gone."""
        self._guarded(self.device.memory_changed)

    def pause(self) -> None:
        """Deliver nothing to the device and have it leave guest memory alone."""
        self.device_loop.suspend()
        self._guarded(self.device.pause)

    def resume(self) -> None:
        """Deliver again, and process what has come meanwhile."""
        self.device_loop.resume()
        self.kick()
        if self._is_restored:
            self._is_restored = False
            with self.lock:
                self.transport.repeat_interrupt()

    def say_goodbye(self) -> None:
        """Tell the driver what a copy of the machine will not have; before :meth:`state`."""
        self._guarded(self.device.prepare_save)

    def state(self) -> dict[str, Any]:
        """What to save of the transport, its queues and the device, which stand still.

        Raises:
            StateError: the device cannot be saved.
        """
        with self.lock:
            return self.transport.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Become what was saved and stand still; :meth:`resume` lets the device go on.

        Raises:
            GuestError: the saved queues do not fit guest memory.
            KeyError, TypeError, ValueError: this is not a saved state of this device.
        """
        self.device_loop.suspend()
        with self.lock:
            self.transport.restore(state)
        self._guarded(self.device.pause)
        self._is_restored = True

    @property
    def cmdline(self) -> str:
        """How the kernel is told of this device."""
        return f"virtio_mmio.device={VIRTIO_MMIO_SIZE >> 10}K@{self.gpa:#x}:{self.gsi}"

    def close(self) -> None:
        """Release doorbells and interrupt; the device lives on, without a driver."""
        with self.lock:
            self.device.deactivate()
            self.device_loop.close()
        for bell in self._doorbells:
            bell.close()
        self._irq.close()
