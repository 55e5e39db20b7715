"""Actions on the devices of a running machine.

Whether a device exists and what its record allows is decided here; what its driver allows, by the
machine.  A record is replaced once the machine has done what it says.
"""

from __future__ import annotations

from pyrovm.errors import ConfigError, PyrovmError
from pyrovm.machine.controller_fault import DEVICE_NOT_FOUND, Fault, prefixed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrovm.config.balloon import BalloonConfig, BalloonStatsUpdate, BalloonUpdate, HintingStart
    from pyrovm.config.drive import DriveUpdate
    from pyrovm.config.memory_hotplug import MemoryHotplugConfig, MemoryHotplugUpdate
    from pyrovm.config.network import NetworkInterfaceUpdate
    from pyrovm.config.pmem import PmemUpdate
    from pyrovm.machine.controller_protocols import RunningMachine
    from pyrovm.machine.resources import Resources

DRIVE = "Drive config error: Unable to patch the block device: "
PMEM = "Pmem config error: Unable to patch the pmem device: "
NETWORK = "Network config error: Unable to update the net device: "
VERIFY = " Please verify the request arguments."
BALLOON = "Balloon update error: "
HOTPLUG = "Memory hotplug update error: "
INTERNAL = "Internal VMM error: "
WRONG_BACKEND = "Block: Running method expected different backend."


class RunningDevices:
    """The devices of ``machine``, which was built from ``resources``."""

    def __init__(self, machine: RunningMachine, resources: Resources) -> None:
        self._machine = machine
        self._resources = resources

    # ----------------------------------------------------- drives, pmem, network

    def update_drive(self, update: DriveUpdate) -> None:
        """Change the file, then the limiter; a vhost-user drive is only looked at again."""
        drive = self._resources.drive(update.drive_id)
        if drive is None:
            raise Fault(f"{DRIVE}{DEVICE_NOT_FOUND}{VERIFY}")
        path, limiter = update.path_on_host, update.rate_limiter
        if drive.config.is_vhost_user != (path is None and limiter is None):
            raise Fault(f"{DRIVE}{WRONG_BACKEND}{VERIFY}")
        try:
            if drive.config.is_vhost_user:
                self._machine.refresh_drive(update.drive_id)
            if path is not None:
                self._machine.update_drive_path(update.drive_id, path)
                drive.config = drive.config.replaced(path_on_host=path)
            if limiter is not None:
                self._machine.update_drive_limiter(update.drive_id, limiter)
                drive.config = drive.config.updated(update)
        except PyrovmError as error:
            raise prefixed(f"{DRIVE}Block: ", error, VERIFY) from None

    def update_pmem(self, update: PmemUpdate) -> None:
        """Change the limiter; without one nothing is looked at, not even the id."""
        if update.rate_limiter is None:
            return
        index = self._resources.find_pmem(update.id)
        if index is None:
            raise Fault(f"{PMEM}{DEVICE_NOT_FOUND}{VERIFY}")
        try:
            self._machine.update_pmem_limiter(update.id, update.rate_limiter)
        except PyrovmError as error:
            raise prefixed(PMEM, error, VERIFY) from None
        self._resources.pmem[index] = self._resources.pmem[index].updated(update)

    def update_network(self, update: NetworkInterfaceUpdate) -> None:
        """Change the limiters."""
        network = self._resources.network(update.iface_id)
        if network is None:
            raise Fault(f"{NETWORK}{DEVICE_NOT_FOUND}")
        rx, tx = update.rx_rate_limiter, update.tx_rate_limiter
        try:
            self._machine.update_net_limiters(update.iface_id, rx, tx)
        except PyrovmError as error:
            raise prefixed(NETWORK, error) from None
        network.config = network.config.updated(update)

    # ----------------------------------------------------------------- balloon

    def _balloon(self, prefix: str) -> BalloonConfig:
        config = self._resources.balloon
        if config is None:
            raise Fault(f"{prefix}{DEVICE_NOT_FOUND}")
        return config

    def balloon_config(self) -> BalloonConfig:
        """The balloon as it is now."""
        return self._balloon(INTERNAL)

    def update_balloon(self, update: BalloonUpdate) -> None:
        """Set another target."""
        config = self._balloon(BALLOON)
        mem_size_mib = self._resources.machine_config.mem_size_mib
        if update.amount_mib > mem_size_mib:
            raise Fault(f"{BALLOON}Balloon: Requested memory should be less than {mem_size_mib}MiB")
        try:
            self._machine.update_balloon(update.amount_mib)
        except PyrovmError as error:
            raise prefixed(f"{BALLOON}Balloon: ", error) from None
        self._resources.balloon = config.replaced(amount_mib=update.amount_mib)

    def update_balloon_stats(self, update: BalloonStatsUpdate) -> None:
        """Set another interval; statistics that are off stay off, those that are on stay on."""
        config = self._balloon(BALLOON)
        old, new = config.stats_polling_interval_s, update.stats_polling_interval_s
        if old == new:
            return
        if not old or not new:
            raise Fault(
                f"{BALLOON}Balloon: Statistics cannot be enabled/disabled after activation."
            )
        try:
            self._machine.update_balloon_interval(new)
        except PyrovmError as error:
            raise prefixed(f"{BALLOON}Balloon: ", error) from None
        self._resources.balloon = config.replaced(stats_polling_interval_s=new)

    def balloon_stats(self) -> dict[str, int]:
        """What the guest told last."""
        if not self._balloon(INTERNAL).stats_polling_interval_s:
            raise Fault(f"{INTERNAL}Balloon: Received stats query when stats are disabled.")
        try:
            return self._machine.balloon_stats()
        except PyrovmError as error:
            raise prefixed(f"{INTERNAL}Balloon: ", error) from None

    def _hinting(self) -> RunningMachine:
        if not self._balloon(BALLOON).free_page_hinting:
            raise Fault(f"{BALLOON}Balloon: Attempting to use hinting when not enabled")
        return self._machine

    def start_hinting(self, command: HintingStart) -> None:
        """Begin a hinting run."""
        machine = self._hinting()
        try:
            machine.start_balloon_hinting(command.acknowledge_on_stop)
        except PyrovmError as error:
            raise prefixed(f"{BALLOON}Balloon: ", error) from None

    def stop_hinting(self) -> None:
        """End the hinting run."""
        machine = self._hinting()
        try:
            machine.stop_balloon_hinting()
        except PyrovmError as error:
            raise prefixed(f"{BALLOON}Balloon: ", error) from None

    def hinting_status(self) -> dict[str, int | None]:
        """The last commands of host and guest."""
        machine = self._hinting()
        try:
            host_cmd, guest_cmd = machine.balloon_hinting_status()
        except PyrovmError as error:
            raise prefixed(f"{BALLOON}Balloon: ", error) from None
        return {"host_cmd": host_cmd, "guest_cmd": guest_cmd}

    # ---------------------------------------------------------- memory hotplug

    def _hotplug(self, prefix: str) -> MemoryHotplugConfig:
        config = self._resources.memory_hotplug
        if config is None:
            raise Fault(f"{prefix}{DEVICE_NOT_FOUND}")
        return config

    def update_memory_hotplug(self, update: MemoryHotplugUpdate) -> None:
        """Set the size that the guest shall plug."""
        config = self._hotplug(HOTPLUG)
        try:
            size_mib = update.requested_size_mib
            if size_mib > config.total_size_mib or size_mib % config.block_size_mib:
                raise ConfigError(
                    f"Size {size_mib << 20} is invalid: it must be a multiple of block size and "
                    "less than the total size"
                )
            self._machine.update_memory_hotplug(size_mib)
        except PyrovmError as error:
            raise prefixed(f"{HOTPLUG}Failed to create memory hotplug device: ", error) from None

    def memory_hotplug_status(self) -> dict[str, Any]:
        """Sizes in MiB."""
        config = self._hotplug(INTERNAL)
        plugged, requested = self._machine.memory_hotplug_sizes()
        return {
            "block_size_mib": config.block_size_mib,
            "total_size_mib": config.total_size_mib,
            "slot_size_mib": config.slot_size_mib,
            "plugged_size_mib": plugged,
            "requested_size_mib": requested,
        }
