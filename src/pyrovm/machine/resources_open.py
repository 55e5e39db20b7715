"""Devices that were opened when they were configured, each beside its record."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.config.drive import DriveConfig
    from pyrovm.config.network import NetworkInterfaceConfig
    from pyrovm.config.vsock import VsockConfig
    from pyrovm.machine.controller_protocols import Device


class Drive:
    """A drive and its open device."""

    __slots__ = ("config", "device")

    def __init__(self, config: DriveConfig, device: Device) -> None:
        self.config = config
        self.device = device


class NetworkInterface:
    """An interface and its open device; ``has_mmds`` if it forwards to the metadata service."""

    __slots__ = ("config", "device", "has_mmds")

    def __init__(self, config: NetworkInterfaceConfig, device: Device) -> None:
        self.config = config
        self.device = device
        self.has_mmds = False


class Vsock:
    """The vsock device, listening."""

    __slots__ = ("config", "device")

    def __init__(self, config: VsockConfig, device: Device) -> None:
        self.config = config
        self.device = device
