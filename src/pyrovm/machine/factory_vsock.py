"""The socket device from the record of ``/vsock``: its host side is opened here."""

from __future__ import annotations

from pyrovm.devices.virtio_vsock import VirtioVsock
from pyrovm.errors import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.config.vsock import VsockConfig
    from pyrovm.devices.virtio_vsock import VsockDevice


def make_vsock(config: VsockConfig, *, vhost: bool = False) -> VsockDevice:
    """The device, listening at ``uds_path``.

    With ``vhost``, and where the host has ``/dev/vhost-vsock``, the kernel connects the guest to
    the host's own AF_VSOCK instead, under its CID, and ``uds_path`` is not used.

    Raises:
        HostError: ``Error binding to the host-side Unix socket: …``, or the kernel has given the
            CID to another guest.
    """
    if vhost:
        from pyrovm.backends.vhost_vsock import VhostVsock
        from pyrovm.devices.virtio_vsock_kernel import VirtioVsockKernel

        try:
            return VirtioVsockKernel(config.guest_cid, VhostVsock(config.guest_cid))
        except Unsupported:  # then it is done here, as without ``vhost``
            pass
    from pyrovm.backends.vsock_unix import UnixVsockHost

    return VirtioVsock(config.guest_cid, UnixVsockHost(config.uds_path))
