"""The devices whose host side is opened as soon as they are configured."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.config.drive import DriveConfig
    from pyrovm.config.network import NetworkInterfaceConfig
    from pyrovm.config.vsock import VsockConfig
    from pyrovm.virtio.device import VirtioDevice


class HostDevices:
    """The controller's device factory; ``vhost`` lets the kernel move packets where it can.

    Where it cannot, we move them, and ``warn`` is told.  The drives named in ``own_disks`` begin as
    their file is, and keep to themselves what is written.
    """

    def __init__(
        self,
        warn: Callable[[str], object],
        *,
        vhost: bool = False,
        own_disks: frozenset[str] = frozenset(),
    ) -> None:
        self._warn = warn
        self._vhost = vhost
        self._own_disks = own_disks

    def block(self, config: DriveConfig) -> VirtioDevice:
        """Open a drive's file, or connect to its vhost-user process."""
        if config.is_vhost_user:
            from pyrovm.machine.factory_vhost_user import make_vhost_user_block

            return make_vhost_user_block(config)
        from pyrovm.machine.factory_block import make_block

        return make_block(config, warn=self._warn, own=config.drive_id in self._own_disks)

    def net(self, config: NetworkInterfaceConfig) -> VirtioDevice:
        """Open a tap."""
        from pyrovm.machine.factory_net import make_net

        return make_net(config, vhost=self._kernel_has("/dev/vhost-net"))

    def vsock(self, config: VsockConfig) -> VirtioDevice:
        """Listen on the Unix socket of the vsock device."""
        from pyrovm.machine.factory_vsock import make_vsock

        return make_vsock(config, vhost=self._kernel_has("/dev/vhost-vsock"))

    def _kernel_has(self, device: str) -> bool:
        """Whether vhost was asked for and ``device`` is there to be used."""
        if not self._vhost:
            return False
        if os.access(device, os.R_OK | os.W_OK):
            return True
        self._warn(f"vhost was asked for, but {device} cannot be opened: it goes without")
        return False
