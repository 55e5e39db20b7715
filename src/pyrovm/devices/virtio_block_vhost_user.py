"""A block device that another process serves (vhost-user-blk).

The queue is between the driver and that process: it reads the rings in shared guest memory, the
driver's notifications and its own interrupts pass us by.  What is left here is the negotiation,
the configuration space, and starting and stopping.
"""

from __future__ import annotations

from time import monotonic_ns

from pyrovm.abi.virtio import VIRTIO_ID_BLOCK
from pyrovm.errors import HostError, StateError
from pyrovm.virtio.counters import Counters
from pyrovm.virtio.device import EPOLLIN, VirtioDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from pyrovm.memory.guest_memory import GuestMemory
    from pyrovm.virtio.device import Activation
    from pyrovm.virtio.queue import Queue

    class VhostUserBackend(Protocol):
        """The process on the other end.  Every method may raise HostError."""

        features: int  # virtio features that both sides have
        required_features: int  # of them, those that are set whatever the driver takes

        def read_config(self, size: int) -> bytes:
            """The device's configuration space."""

        def start(
            self, memory: GuestMemory, queue: Queue, features: int, *, kick: int, call: int
        ) -> None:
            """Have the queue served, until ``stop``."""

        def set_memory(self, memory: GuestMemory) -> None:
            """Guest memory has come or gone while the queue is served."""

        def stop(self, memory: GuestMemory, queue: Queue) -> None:
            """Have it served no more, and set it to where the other process stopped."""

        def close(self) -> None:
            """End the connection."""


CONFIG_SIZE = 60  # struct virtio_blk_config as of virtio 1.2, up to secure erase


class VhostUserBlockCounters(Counters):
    """The ``vhost_user_block`` metrics; times are those of the last such event, in us."""

    __slots__ = (
        "activate_fails",
        "activate_time_us",
        "cfg_fails",
        "config_change_time_us",
        "init_time_us",
    )

    activate_fails: int
    activate_time_us: int
    cfg_fails: int
    config_change_time_us: int
    init_time_us: int


class VhostUserBlock(VirtioDevice):
    """A drive with a ``socket``; the device owns ``backend``.

    Raises:
        HostError: the other process does not tell its configuration.
    """

    device_id = VIRTIO_ID_BLOCK
    metrics_group = "vhost_user_block"
    needs_shared_memory = True
    counters: VhostUserBlockCounters

    def __init__(self, name: str, backend: VhostUserBackend) -> None:
        super().__init__(name)
        self.features = backend.features
        self.counters = VhostUserBlockCounters()
        self._backend = backend
        self._config = backend.read_config(CONFIG_SIZE)
        self._runs = False

    def config(self) -> bytes:
        return self._config

    def refresh_config(self) -> None:
        """Read the configuration again and tell the driver that it changed.

        Raises:
            HostError: the other process did not answer.
        """
        started = monotonic_ns()
        try:
            self._config = self._backend.read_config(CONFIG_SIZE)
        except HostError:
            self.counters.cfg_fails += 1
            raise
        if self.active is not None:
            self.active.interrupts.config()
        self.counters.config_change_time_us = (monotonic_ns() - started) // 1000

    def activate(self, active: Activation) -> None:
        started = monotonic_ns()
        super().activate(active)
        try:
            self._start(active)
        except HostError:
            self.counters.activate_fails += 1
            raise
        self.counters.activate_time_us = (monotonic_ns() - started) // 1000

    def _start(self, active: Activation) -> None:
        if self._runs:
            return
        active.interrupts.leave_to_kernel()
        self._backend.start(
            active.memory,
            active.queues[0],
            active.features | self._backend.required_features,
            kick=active.kicks[0],
            call=active.calls[0],
        )
        self._runs = True
        active.loop.modify(active.kicks[0], 0)

    def _stop(self) -> None:
        active = self.active
        if self._runs and active is not None:
            self._runs = False
            self._backend.stop(active.memory, active.queues[0])
            active.loop.modify(active.kicks[0], EPOLLIN)

    def process(self, index: int) -> None:
        """A notification that came before the other process was listening is passed on there."""

    def pause(self) -> None:
        self._stop()

    def kick(self) -> None:
        if self.active is not None:
            self._start(self.active)

    def memory_changed(self) -> None:
        if self._runs and self.active is not None:
            self._backend.set_memory(self.active.memory)

    def deactivate(self) -> None:
        try:
            self._stop()
        except HostError:  # gone, or deaf: the driver's next start will say so
            pass
        super().deactivate()

    def close(self) -> None:
        self._backend.close()

    def state(self) -> dict[str, Any]:
        """There is none to save.

        Raises:
            StateError: always; what the other process knows is not ours to save.
        """
        raise StateError(
            f"Devices without snapshot support are present: vhost-user-block(id: {self.name})"
        )
