"""Taps: network interfaces of the host whose other end is a file (Documentation/networking/tuntap).

A tap here carries whole Ethernet frames, each behind a 12-byte ``virtio_net_hdr_v1``, so that
checksum and segmentation offloads pass between guest and host untouched.
"""

from __future__ import annotations

import os
from struct import Struct

from pyrovm.abi import net as abi
from pyrovm.abi import virtio as v
from pyrovm.errors import ConfigError, HostError, os_error
from pyrovm.host.ioctl import ioctl, ioctl_buffer

TUN_DEVICE = "/dev/net/tun"
VNET_HEADER_SIZE = 12

_IFREQ = Struct("<16sH22x")  # struct ifreq with ifr_flags
_READ_AGAIN = (BlockingIOError, InterruptedError)


class Tap:
    """An attached tap interface; it closes with ``close``.

    Raises:
        ConfigError: ``name`` cannot be an interface's.
        HostError: there is no such interface for us.
    """

    def __init__(self, name: str) -> None:
        raw = name.encode()
        if not 0 < len(raw) < abi.IFNAMSIZ or b"\0" in raw:
            raise ConfigError(
                f"Invalid interface name {name!r}: it has 1 to {abi.IFNAMSIZ - 1} bytes, none of "
                "them zero"
            )
        self.name = name
        try:
            self.fd = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise HostError(
                f"Couldn't open {TUN_DEVICE}: {os_error(error)}", error.errno or 0
            ) from None
        try:
            self._attach(raw)
        except HostError:
            self.close()
            raise

    def _attach(self, name: bytes) -> None:
        flags = abi.IFF_TAP | abi.IFF_NO_PI | abi.IFF_VNET_HDR
        request = bytearray(_IFREQ.pack(name, flags))
        try:
            ioctl_buffer(
                self.fd,
                abi.TUNSETIFF,
                request,
                what="Error while creating ifreq structure",
            )
        except HostError as error:
            raise HostError(
                f"{error}. Invalid TUN/TAP Backend provided by {self.name}. Check our "
                "documentation on setting up the network devices.",
                error.errno,
            ) from None
        ioctl_buffer(
            self.fd,
            abi.TUNSETVNETHDRSZ,
            bytearray(VNET_HEADER_SIZE.to_bytes(4, "little")),
            what="Error while setting size of the vnet header",
        )

    def set_offload(self, features: int) -> None:
        """Let the tap deliver what a driver with these virtio features can receive.

        Raises:
            HostError: the kernel refused.
        """
        ioctl(
            self.fd,
            abi.TUNSETOFFLOAD,
            offload_flags(features),
            what=f"{self.name}: Error setting the offload flags",
        )

    def readv(self, views: list[memoryview]) -> int | None:
        """Read a frame with its header; its size, None if there is none.  hot: per frame.

        Raises:
            OSError: the interface is gone.
        """
        try:
            return os.readv(self.fd, views)
        except _READ_AGAIN:
            return None

    def writev(self, views: list[memoryview]) -> int:
        """Send a frame with its header.  hot: per frame.

        Raises:
            OSError: the kernel does not take it, or the interface is down or gone.
        """
        return os.writev(self.fd, views)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def offload_flags(features: int) -> int:
    """TUNSETOFFLOAD's flags for a driver with these virtio features.

    The kernel takes segmentation only together with checksums, as virtio does (1.2, 5.1.3.1).
    """
    if not features >> v.VIRTIO_NET_F_GUEST_CSUM & 1:
        return 0
    flags = abi.TUN_F_CSUM
    for bit, flag in (
        (v.VIRTIO_NET_F_GUEST_TSO4, abi.TUN_F_TSO4),
        (v.VIRTIO_NET_F_GUEST_TSO6, abi.TUN_F_TSO6),
        (v.VIRTIO_NET_F_GUEST_UFO, abi.TUN_F_UFO),
    ):
        if features >> bit & 1:
            flags |= flag
    return flags
