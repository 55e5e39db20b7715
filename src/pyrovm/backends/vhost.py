"""vhost: virtqueues served by the kernel (drivers/vhost), whatever the device.

The kernel is told where guest memory and the rings lie in this process, gets the eventfd that the
driver's notification signals (kick) and the one that interrupts the driver (call), and from then
on works without us.  It keeps two indices of each queue: the next available entry, which it hands
over when asked, and the next used one, which it reads from the ring whenever it starts.
"""

from __future__ import annotations

import os

from pyrovm.abi import vhost as abi
from pyrovm.abi.layout import entries, with_tail
from pyrovm.errors import HostError, Unsupported, os_error
from pyrovm.host.ioctl import ioctl, ioctl_buffer, ioctl_struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.memory.guest_memory import GuestMemory
    from pyrovm.virtio.queue import Queue


class Vhost:
    """An open ``/dev/vhost-*``, owned by this process; it closes with ``close``.

    Raises:
        Unsupported: the host has no such device.
        HostError: it may not be used.
    """

    def __init__(self, path: str) -> None:
        self._what = path
        try:
            self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise Unsupported(
                f"{path} does not exist; load the kernel module {os.path.basename(path)}"
            ) from None
        except OSError as error:
            raise HostError(f"Couldn't open {path}: {os_error(error)}", error.errno or 0) from None
        try:
            ioctl(self.fd, abi.VHOST_SET_OWNER, what=f"{path}: VHOST_SET_OWNER")
        except HostError:
            self.close()
            raise

    def close(self) -> None:
        """Give the device back; the kernel stops every queue."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def features(self) -> int:
        """The virtio features, and vhost's own, that the kernel knows."""
        value = bytearray(8)
        ioctl_buffer(
            self.fd, abi.VHOST_GET_FEATURES, value, what=f"{self._what}: VHOST_GET_FEATURES"
        )
        return int.from_bytes(value, "little")

    def set_features(self, features: int) -> None:
        """What was negotiated.  Only while no queue runs.

        Raises:
            HostError: a feature is not among :meth:`features`.
        """
        value = bytearray(features.to_bytes(8, "little"))
        ioctl_buffer(
            self.fd, abi.VHOST_SET_FEATURES, value, what=f"{self._what}: VHOST_SET_FEATURES"
        )

    def set_memory(self, memory: GuestMemory) -> None:
        """Tell the kernel where guest memory lies; again whenever its regions change."""
        regions = [region for region in memory.regions if region.hva]
        table = with_tail(abi.vhost_memory, abi.vhost_memory_region, len(regions))
        abi.vhost_memory(table).nregions = len(regions)
        rows = entries(table, abi.vhost_memory, abi.vhost_memory_region, len(regions))
        for row, region in zip(rows, regions, strict=True):
            row.guest_phys_addr = region.gpa
            row.memory_size = region.size
            row.userspace_addr = region.hva
        ioctl_buffer(
            self.fd, abi.VHOST_SET_MEM_TABLE, table, what=f"{self._what}: VHOST_SET_MEM_TABLE"
        )

    def set_vring(
        self, index: int, queue: Queue, memory: GuestMemory, *, kick: int, call: int
    ) -> None:
        """Hand ``queue`` over as the kernel's queue ``index``; it starts with its backend.

        ``kick`` and ``call`` are eventfds; the kernel keeps references of its own.

        Raises:
            GuestMemoryError: a ring is not in memory that the kernel can reach.
            HostError: the kernel refused.
        """
        address = abi.vhost_vring_addr()
        address.index = index
        address.desc_user_addr = memory.hva(queue.desc, 16 * queue.size)
        address.avail_user_addr = memory.hva(queue.avail, 6 + 2 * queue.size)
        address.used_user_addr = memory.hva(queue.used, 6 + 8 * queue.size)
        self._vring_state(abi.VHOST_SET_VRING_NUM, "NUM", index, queue.size)
        self._vring_state(abi.VHOST_SET_VRING_BASE, "BASE", index, queue.next_avail)
        self._vring_ioctl(abi.VHOST_SET_VRING_ADDR, "ADDR", address)
        self._vring_file(abi.VHOST_SET_VRING_KICK, "KICK", index, kick)
        self._vring_file(abi.VHOST_SET_VRING_CALL, "CALL", index, call)

    def take_back(self, index: int, queue: Queue, memory: GuestMemory) -> None:
        """Learn how far the kernel got with a queue that it no longer serves."""
        state = abi.vhost_vring_state()
        state.index = index
        self._vring_ioctl(abi.VHOST_GET_VRING_BASE, "BASE", state)
        used_index = bytes(memory.slice(queue.used + 2, 2))
        queue.continue_at(state.num, int.from_bytes(used_index, "little"))

    def _vring_state(self, request: int, name: str, index: int, value: int) -> None:
        state = abi.vhost_vring_state()
        state.index = index
        state.num = value
        self._vring_ioctl(request, name, state)

    def _vring_file(self, request: int, name: str, index: int, fd: int) -> None:
        file = abi.vhost_vring_file()
        file.index = index
        file.fd = fd
        self._vring_ioctl(request, name, file)

    def _vring_ioctl(
        self,
        request: int,
        name: str,
        argument: abi.vhost_vring_state | abi.vhost_vring_file | abi.vhost_vring_addr,
    ) -> None:
        what = f"{self._what}: VRING_{name} of queue {argument.index}"
        ioctl_struct(self.fd, request, argument, what=what)
