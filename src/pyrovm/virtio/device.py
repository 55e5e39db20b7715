"""What a virtio device is, whatever transport carries it (virtio 1.2, section 2).

A device gets its world by constructor (its configuration, its backend) and by ``activate`` (guest
memory, queues, interrupts, an event loop).  It knows neither KVM nor addresses nor locks: the
machine calls it from one thread at a time.
"""

from __future__ import annotations

from pyrovm.abi.virtio import VIRTIO_F_VERSION_1, VIRTIO_RING_F_EVENT_IDX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, ClassVar, Protocol

    from pyrovm.memory.guest_memory import GuestMemory
    from pyrovm.virtio.queue import Queue

    class Timer(Protocol):
        """A one-shot timer."""

        def arm(self, seconds: float) -> None:
            """Fire once, this long from now; replaces an earlier setting."""

        def disarm(self) -> None:
            """Do not fire."""

        @property
        def armed(self) -> bool:
            """Whether it will fire."""

    class Loop(Protocol):
        """The part of the event loop that a device may use."""

        def watch(self, fd: int, callback: Callable[[int], None], events: int = 1) -> None:
            """Call ``callback(events)`` when ``fd`` is ready; ``events`` as for epoll."""

        def modify(self, fd: int, events: int) -> None:
            """Change what a watched ``fd`` is watched for; 0 mutes it."""

        def unwatch(self, fd: int) -> None:
            """Stop watching; unknown descriptors are ignored."""

        def timer(self, callback: Callable[[], None]) -> Timer:
            """A new timer, not armed."""

    class Interrupts(Protocol):
        """How a device reaches the driver."""

        def queue(self) -> None:
            """Used buffers are waiting."""

        def config(self) -> None:
            """The configuration space has changed."""

        def refresh_config(self) -> None:
            """It has changed by the driver's own doing: show it, interrupt nobody."""

        def leave_to_kernel(self) -> None:
            """The kernel signals used buffers itself, through ``Activation.calls``, until reset."""


QUEUE_SIZE = 256
EPOLLIN, EPOLLOUT = 1, 4


class Activation:
    """What a device is handed when its driver says DRIVER_OK.

    ``kicks`` and ``calls`` hold, for each queue, the eventfd that the driver's notification signals
    and the one that interrupts the driver: for a data plane in the kernel (vhost).  Such a device
    mutes the kicks on the loop and says :meth:`Interrupts.leave_to_kernel`.  Both are empty where
    the transport has no such descriptors.
    """

    __slots__ = ("calls", "features", "interrupts", "kicks", "loop", "memory", "queues")

    def __init__(
        self,
        memory: GuestMemory,
        queues: Sequence[Queue],
        features: int,
        interrupts: Interrupts,
        loop: Loop,
        kicks: Sequence[int] = (),
        calls: Sequence[int] = (),
    ) -> None:
        self.memory = memory
        self.queues = queues
        self.features = features
        self.interrupts = interrupts
        self.loop = loop
        self.kicks = kicks
        self.calls = calls


class VirtioDevice:
    """Base of the devices: identity, features, configuration space, queues.

    Subclasses set ``device_id`` and ``queue_sizes``, offer ``features`` and serve ``process``.
    A callback that a device gives to the loop runs under the same protection as ``process``:
    it may raise GuestError.
    """

    device_id: ClassVar[int]
    queue_sizes: Sequence[int] = (QUEUE_SIZE,)
    counters: Any  # this device's group in the metrics; each kind has a class of its own
    needs_shared_memory = False  # with another process, which serves the queues (vhost-user)
    writes_unseen = False  # to guest memory, past what keeps count of changed pages (vhost)

    def __init__(self, name: str) -> None:
        self.name = name  # as the API knows it: a drive id, an interface id
        self.features = 1 << VIRTIO_F_VERSION_1
        self.active: Activation | None = None

    def offers(self, bit: int) -> bool:
        """Whether feature ``bit`` is offered to the driver."""
        return bool(self.features >> bit & 1)

    def accepts(self, features: int) -> bool:
        """Whether the driver's choice of features will do."""
        return bool(features >> VIRTIO_F_VERSION_1 & 1)

    def config(self) -> bytes:
        """The configuration space as it is now."""
        return b""

    def write_config(self, offset: int, data: bytes) -> None:
        """The driver writes to the configuration space; ignored unless a device says otherwise."""

    def activate(self, active: Activation) -> None:
        """The driver is ready; queues are checked and mapped."""
        self.active = active

    def process(self, index: int) -> None:
        """The driver rang the bell of queue ``index``.

        Raises:
            GuestError: the driver broke a rule; the machine marks the device broken.
        """
        raise AssertionError(f"{type(self).__name__} has no queue {index}")

    def kick(self) -> None:
        """Look at every queue: after a resume or a restore nothing rings for what waits there."""
        if self.active is not None:
            for queue in self.active.queues:
                if queue.ready:
                    self.process(queue.index)

    def pause(self) -> None:
        """The machine stands still: finish what is in flight, leave guest memory alone.

        Until :meth:`kick` no callback and no descriptor is delivered; whoever works for the device
        elsewhere (the kernel, another process) must stop here.
        """

    def memory_changed(self) -> None:
        """Guest memory has come or gone: whoever works with a copy of its map needs a new one."""

    def deactivate(self) -> None:
        """The driver is gone (reset, failure): release what ``activate`` took."""
        self.active = None

    def close(self) -> None:
        """The VM is gone: release the backend."""

    def prepare_save(self) -> None:
        """Tell the driver what a save will cost it, while queues still work; before ``state``."""

    def state(self) -> dict[str, Any]:
        """What to save besides queues, features and guest memory: plain data."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over saved data, before ``activate``; it is checked like the driver's words."""

    @property
    def event_idx(self) -> bool:
        """Whether the driver took EVENT_IDX."""
        return self.active is not None and bool(self.active.features >> VIRTIO_RING_F_EVENT_IDX & 1)
