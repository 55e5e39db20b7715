"""The network device's data plane in the kernel: /dev/vhost-net between the rings and a tap.

Frames then move without this process: the driver's notification wakes a kernel thread, and that
interrupts the driver.  What is lost is what only we do: rate limits, the metadata service, the
counters of this interface, and the log of pages written.
"""

from __future__ import annotations

import os

from pyrovm.abi import vhost as abi
from pyrovm.abi import virtio as v
from pyrovm.backends.vhost import Vhost
from pyrovm.host.ioctl import ioctl_struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrovm.memory.guest_memory import GuestMemory
    from pyrovm.virtio.queue import Queue

VHOST_NET = "/dev/vhost-net"
NO_BACKEND = -1
_KICK = (1).to_bytes(8, "little")

# What vhost must know; all other features of the device are between driver and tap.
RING_FEATURES = (
    1 << v.VIRTIO_F_VERSION_1 | 1 << v.VIRTIO_RING_F_EVENT_IDX | 1 << v.VIRTIO_NET_F_MRG_RXBUF
)


class VhostNet:
    """Serves the queues of one network device with the tap ``tap_fd``, which stays the caller's.

    Raises:
        Unsupported: the host has no vhost-net.
        HostError: it may not be used.
    """

    def __init__(self, tap_fd: int) -> None:
        self._tap_fd = tap_fd
        self._vhost = Vhost(VHOST_NET)

    def start(
        self,
        memory: GuestMemory,
        queues: Sequence[Queue],
        features: int,
        kicks: Sequence[int],
        calls: Sequence[int],
    ) -> None:
        """Serve the queues until :meth:`stop`.

        Raises:
            HostError: the kernel refused; nothing is served.
            GuestError: a ring is where the kernel cannot reach it.
        """
        vhost = self._vhost
        # Not VHOST_NET_F_VIRTIO_NET_HDR: the tap has the header, vhost must not make one up.
        vhost.set_features(features & RING_FEATURES)
        vhost.set_memory(memory)
        served = [queue for queue in queues if queue.ready]
        for queue in served:
            at = queue.index
            vhost.set_vring(at, queue, memory, kick=kicks[at], call=calls[at])
        try:
            for queue in served:
                self._set_backend(queue.index, self._tap_fd)
        except Exception:
            self._set_backends(served, NO_BACKEND)
            raise
        for queue in served:  # the driver may have notified somebody else before
            os.write(kicks[queue.index], _KICK)

    def set_memory(self, memory: GuestMemory) -> None:
        """Guest memory has come or gone while the queues are served.

        Raises:
            HostError: the kernel refused.
        """
        self._vhost.set_memory(memory)

    def stop(self, memory: GuestMemory, queues: Sequence[Queue]) -> None:
        """Serve no more, and set the queues to where the kernel stopped."""
        served = [queue for queue in queues if queue.ready]
        self._set_backends(served, NO_BACKEND)
        for queue in served:
            self._vhost.take_back(queue.index, queue, memory)

    def _set_backends(self, queues: Sequence[Queue], fd: int) -> None:
        for queue in queues:
            self._set_backend(queue.index, fd)

    def _set_backend(self, index: int, fd: int) -> None:
        file = abi.vhost_vring_file()
        file.index = index
        file.fd = fd
        ioctl_struct(
            self._vhost.fd,
            abi.VHOST_NET_SET_BACKEND,
            file,
            what=f"{VHOST_NET}: backend of queue {index}",
        )

    def close(self) -> None:
        """Release the kernel's device; it stops serving."""
        self._vhost.close()
