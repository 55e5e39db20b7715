"""/dev/vhost-vsock: the kernel connects a guest's sockets to the host's AF_VSOCK.

Packets then move without this process, and programs on the host reach the guest by its CID
instead of a Unix socket.
"""

from __future__ import annotations

import os

from pyrovm.abi import vhost as abi
from pyrovm.abi import virtio as v
from pyrovm.backends.vhost import Vhost
from pyrovm.host.ioctl import ioctl_buffer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrovm.memory.guest_memory import GuestMemory
    from pyrovm.virtio.queue import Queue

VHOST_VSOCK = "/dev/vhost-vsock"
_KICK = (1).to_bytes(8, "little")
RING_FEATURES = 1 << v.VIRTIO_F_VERSION_1 | 1 << v.VIRTIO_RING_F_EVENT_IDX


class VhostVsock:
    """The kernel's end of the guest with the address ``guest_cid``.

    Raises:
        Unsupported: the host has no vhost-vsock.
        HostError: it may not be used, or the address is another guest's or none for a guest.
    """

    def __init__(self, guest_cid: int) -> None:
        self._vhost = Vhost(VHOST_VSOCK)
        try:
            self._ioctl(abi.VHOST_VSOCK_SET_GUEST_CID, guest_cid, 8, f"guest CID {guest_cid}")
        except Exception:
            self._vhost.close()
            raise

    def start(
        self,
        memory: GuestMemory,
        queues: Sequence[Queue],
        features: int,
        kicks: Sequence[int],
        calls: Sequence[int],
    ) -> None:
        """Serve the queues of packets, to and from the guest, until :meth:`stop`.

        Raises:
            HostError: the kernel refused; nothing is served.
            GuestError: a ring is where the kernel cannot reach it.
        """
        vhost = self._vhost
        vhost.set_features(features & RING_FEATURES)
        vhost.set_memory(memory)
        for queue in queues:
            at = queue.index
            vhost.set_vring(at, queue, memory, kick=kicks[at], call=calls[at])
        self._set_running(1)
        for queue in queues:  # the driver may have notified somebody else before
            os.write(kicks[queue.index], _KICK)

    def set_memory(self, memory: GuestMemory) -> None:
        """Tell the kernel of memory that has come or gone.

        Raises:
            HostError: it refused.
        """
        self._vhost.set_memory(memory)

    def stop(self, memory: GuestMemory, queues: Sequence[Queue]) -> None:
        """Serve no more, and set the queues to where the kernel stopped."""
        self._set_running(0)
        for queue in queues:
            self._vhost.take_back(queue.index, queue, memory)

    def _set_running(self, value: int) -> None:
        self._ioctl(abi.VHOST_VSOCK_SET_RUNNING, value, 4, "running")

    def _ioctl(self, request: int, value: int, size: int, what: str) -> None:
        argument = bytearray(value.to_bytes(size, "little"))
        ioctl_buffer(self._vhost.fd, request, argument, what=f"{VHOST_VSOCK}: {what}")

    def close(self) -> None:
        """Release the kernel's device; it stops serving."""
        self._vhost.close()
