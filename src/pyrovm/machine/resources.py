"""The machine before it runs: records, and the devices that were opened when they were configured.

A method that fails leaves what was there before, unless its docstring says otherwise.  Errors carry
the inner text; the controller adds the API's class prefix.
"""

from __future__ import annotations

import os

from pyrovm.config.boot_source import BootSourceConfig
from pyrovm.config.machine import MachineConfig
from pyrovm.config.record import json_or_null
from pyrovm.errors import ConfigError, HostError, PyrovmError, os_error
from pyrovm.machine.resources_open import Drive, NetworkInterface, Vsock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrovm.config.balloon import BalloonConfig
    from pyrovm.config.cpu_template import CpuTemplate
    from pyrovm.config.drive import DriveConfig
    from pyrovm.config.entropy import EntropyConfig
    from pyrovm.config.machine import MachineConfigUpdate
    from pyrovm.config.memory_hotplug import MemoryHotplugConfig
    from pyrovm.config.mmds import MmdsConfig
    from pyrovm.config.network import NetworkInterfaceConfig
    from pyrovm.config.pmem import PmemConfig
    from pyrovm.config.serial import SerialConfig
    from pyrovm.config.vsock import VsockConfig
    from pyrovm.machine.controller_protocols import DeviceFactory
    from pyrovm.mmds.store import DataStore

_OPEN_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO must not make us wait


class Resources:
    """Everything the user has configured.

    The root drive, if any, is the first of ``drives``; the others, and ``networks`` and ``pmem``,
    are in the order in which the guest gets them.  ``kernel_fd`` and ``initrd_fd`` (-1: none) stay
    open until they are replaced or :meth:`close`; ``mmds_store`` is None while nothing was put.
    """

    def __init__(
        self,
        factory: DeviceFactory,
        *,
        instance_id: str = "anonymous-instance",
        mmds_size_limit: int = 51200,
        boot_timer: bool = False,
        enable_pci: bool = False,
    ) -> None:
        self._factory = factory
        self.instance_id = instance_id
        self.mmds_size_limit = mmds_size_limit
        self.boot_timer = boot_timer
        self.enable_pci = enable_pci
        self.machine_config = MachineConfig()
        self.cpu_template: CpuTemplate | None = None
        self.boot_source = BootSourceConfig()
        self.kernel_fd = -1
        self.initrd_fd = -1
        self.drives: list[Drive] = []
        self.networks: list[NetworkInterface] = []
        self.pmem: list[PmemConfig] = []
        self.vsock: Vsock | None = None
        self.balloon: BalloonConfig | None = None
        self.entropy: EntropyConfig | None = None
        self.memory_hotplug: MemoryHotplugConfig | None = None
        self.serial: SerialConfig | None = None
        self.mmds: MmdsConfig | None = None
        self.mmds_store: DataStore | None = None

    # ----------------------------------------------------------------- machine

    def update_machine(self, update: MachineConfigUpdate) -> None:
        """Change the machine; a static template replaces a custom one.

        Raises:
            ConfigError: the merged configuration is not allowed.
        """
        merged = update.apply(self.machine_config)
        if self.balloon is not None and self.balloon.amount_mib > merged.mem_size_mib:
            raise ConfigError(
                "The memory size (MiB) is smaller than the previously set balloon device target "
                "size."
            )
        self.machine_config = merged
        if update.cpu_template is not None:
            self.cpu_template = None

    def set_cpu_template(self, template: CpuTemplate) -> None:
        """Use a custom template instead of any static one."""
        self.cpu_template = template
        config = self.machine_config
        self.machine_config = MachineConfig(
            vcpu_count=config.vcpu_count,
            mem_size_mib=config.mem_size_mib,
            smt=config.smt,
            track_dirty_pages=config.track_dirty_pages,
            huge_pages=config.huge_pages,
        )

    def set_boot_source(self, config: BootSourceConfig) -> None:
        """Open the kernel and the initrd and check the command line.

        Raises:
            HostError: a file cannot be opened.
            ConfigError: the command line is not valid.
        """
        kernel_fd = _open(config.kernel_image_path, "The kernel file cannot be opened")
        initrd_fd = -1
        try:
            if config.initrd_path is not None:
                initrd_fd = _open(
                    config.initrd_path,
                    "The initrd file cannot be opened due to invalid path or invalid permissions.",
                    separator=" ",
                )
            if config.boot_args is not None:
                from pyrovm.boot.cmdline import Cmdline

                Cmdline(config.boot_args)
        except PyrovmError:
            _close(kernel_fd, initrd_fd)
            raise
        _close(self.kernel_fd, self.initrd_fd)
        self.kernel_fd, self.initrd_fd = kernel_fd, initrd_fd
        self.boot_source = config

    # ------------------------------------------------------------------ drives

    @property
    def has_root_drive(self) -> bool:
        """Whether the guest's root file system is on a drive."""
        return bool(self.drives) and self.drives[0].config.is_root_device

    @property
    def has_root_pmem(self) -> bool:
        """Whether the guest's root file system is in persistent memory."""
        return any(config.root_device for config in self.pmem)

    def put_drive(self, config: DriveConfig) -> None:
        """Open a drive, new or instead of the one of the same id.

        Raises:
            ConfigError, HostError: it cannot be; the earlier one stays.
        """
        if config.is_root_device and self.has_root_pmem:
            raise ConfigError(
                "Attempt to add block as a root device while the root device defined as a pmem "
                "device"
            )
        position = self._find_drive(config.drive_id)
        if config.is_root_device and self.has_root_drive and position != 0:
            raise ConfigError("A root block device already exists!")
        try:
            config = config.checked()
            drive = Drive(config, self._factory.block(config))
        except PyrovmError as error:
            raise _wrapped("Unable to create the virtio block device: ", error) from None
        drives = self.drives
        if position is None:
            drives.insert(0 if config.is_root_device else len(drives), drive)
            return
        drives[position].device.close()
        drives[position] = drive
        if config.is_root_device:
            drives[0], drives[position] = drives[position], drives[0]

    def _find_drive(self, drive_id: str) -> int | None:
        for index, drive in enumerate(self.drives):
            if drive.config.drive_id == drive_id:
                return index
        return None

    def drive(self, drive_id: str) -> Drive | None:
        """The drive with this id."""
        index = self._find_drive(drive_id)
        return None if index is None else self.drives[index]

    # -------------------------------------------------------------------- pmem

    def put_pmem(self, config: PmemConfig) -> None:
        """Note a persistent memory device; its file is opened at the start.

        Raises:
            ConfigError: there is another root device.
        """
        if config.root_device and self.has_root_drive:
            raise ConfigError(
                "Attempt to add pmem as a root device while the root device defined as a block "
                "device"
            )
        position = self.find_pmem(config.id)
        others = [other for index, other in enumerate(self.pmem) if index != position]
        if config.root_device and any(other.root_device for other in others):
            raise ConfigError("A root pmem device already exist")
        if position is None:
            self.pmem.append(config)
        else:
            self.pmem[position] = config

    def find_pmem(self, pmem_id: str) -> int | None:
        """The index of the device with this id."""
        for index, config in enumerate(self.pmem):
            if config.id == pmem_id:
                return index
        return None

    # ---------------------------------------------------------- network, vsock

    def put_network(self, config: NetworkInterfaceConfig) -> None:
        """Open a tap.  An interface of the same id is closed first, and gone if this fails.

        Raises:
            ConfigError: the MAC address is another interface's; nothing has changed.
            ConfigError, HostError: the tap cannot be used.
        """
        networks = self.networks
        for other in networks:
            is_same = other.config.iface_id == config.iface_id
            if config.guest_mac and config.guest_mac == other.config.guest_mac and not is_same:
                raise ConfigError(f"The MAC address is already in use: {config.guest_mac}")
        for index, other in enumerate(networks):
            if other.config.iface_id == config.iface_id:
                networks[index] = networks[-1]
                networks.pop()
                other.device.close()
                break
        try:
            device = self._factory.net(config)
        except PyrovmError as error:
            raise _wrapped("Could not create the network device: ", error) from None
        networks.append(NetworkInterface(config, device))

    def network(self, iface_id: str) -> NetworkInterface | None:
        """The interface with this id."""
        for network in self.networks:
            if network.config.iface_id == iface_id:
                return network
        return None

    def put_vsock(self, config: VsockConfig) -> None:
        """Listen on the vsock's Unix socket; an earlier one is removed first.

        Raises:
            HostError: the socket cannot be bound; there is no vsock device then.
        """
        old, self.vsock = self.vsock, None
        if old is not None:
            old.device.close()
            try:
                os.unlink(old.config.uds_path)
            except OSError:  # somebody else has removed it: what we want
                pass
        try:
            self.vsock = Vsock(config, self._factory.vsock(config))
        except PyrovmError as error:
            raise _wrapped("Cannot create backend for vsock device: ", error) from None

    # ------------------------------------------------- devices made at the start

    def set_balloon(self, config: BalloonConfig) -> None:
        """Note the balloon.

        Raises:
            ConfigError: it is larger than the memory.
        """
        from pyrovm.config.balloon import check_balloon

        check_balloon(config, self.machine_config.mem_size_mib)
        self.balloon = config

    def set_entropy(self, config: EntropyConfig) -> None:
        """Note the entropy device."""
        self.entropy = config

    def set_memory_hotplug(self, config: MemoryHotplugConfig) -> None:
        """Note the hotpluggable memory.

        Raises:
            ConfigError: its sizes do not fit each other.
        """
        from pyrovm.config.memory_hotplug import check_memory_hotplug

        check_memory_hotplug(config)
        self.memory_hotplug = config

    # -------------------------------------------------------------------- MMDS

    def set_mmds(self, config: MmdsConfig) -> None:
        """Let exactly the listed interfaces forward to the metadata service.

        Raises:
            ConfigError: the address or an interface id is not valid.
        """
        from pyrovm.config.mmds import check_mmds

        check_mmds(config, [network.config.iface_id for network in self.networks])
        self.mmds = config
        for network in self.networks:
            network.has_mmds = network.config.iface_id in config.network_interfaces

    @property
    def has_mmds(self) -> bool:
        """Whether any interface forwards to the metadata service."""
        return any(network.has_mmds for network in self.networks)

    def store(self) -> DataStore:
        """The metadata, made when it is first needed."""
        if self.mmds_store is None:
            from pyrovm.mmds.store import DataStore

            self.mmds_store = DataStore(self.mmds_size_limit)
        return self.mmds_store

    # ------------------------------------------------------------------ output

    def to_json(self) -> dict[str, Any]:
        """What ``GET /vm/config`` prints."""
        return {
            "balloon": json_or_null(self.balloon),
            "drives": [drive.config.to_json() for drive in self.drives],
            "boot-source": self.boot_source.to_json(),
            "cpu-config": None,
            "logger": None,
            "machine-config": self.machine_config.to_json(),
            "metrics": None,
            "mmds-config": self._mmds_json(),
            "network-interfaces": [network.config.to_json() for network in self.networks],
            "vsock": None if self.vsock is None else self.vsock.config.to_json(),
            "entropy": json_or_null(self.entropy),
            "pmem": [config.to_json() for config in self.pmem],
            "memory-hotplug": json_or_null(self.memory_hotplug),
        }

    def _mmds_json(self) -> Any:
        if self.mmds is None or not self.has_mmds:
            return None
        fields = self.mmds.to_json()
        fields["network_interfaces"] = [
            network.config.iface_id for network in self.networks if network.has_mmds
        ]
        return fields

    def close(self) -> None:
        """Close what was opened, of a machine that never ran."""
        for drive in self.drives:
            drive.device.close()
        for network in self.networks:
            network.device.close()
        if self.vsock is not None:
            self.vsock.device.close()
        self.close_boot_files()

    def close_boot_files(self) -> None:
        """Close kernel and initrd: the machine runs."""
        _close(self.kernel_fd, self.initrd_fd)
        self.kernel_fd = self.initrd_fd = -1


def _open(path: str, what: str, separator: str = ": ") -> int:
    try:
        return os.open(path, _OPEN_READ)
    except OSError as error:
        raise HostError(f"{what}{separator}{os_error(error)}", error.errno or 0) from None


def _close(*fds: int) -> None:
    for fd in fds:
        if fd >= 0:
            os.close(fd)


def _wrapped(prefix: str, error: PyrovmError) -> PyrovmError:
    """``error`` of the same kind with ``prefix`` before its text."""
    if isinstance(error, HostError):
        return HostError(f"{prefix}{error}", error.errno)
    return ConfigError(f"{prefix}{error}")
