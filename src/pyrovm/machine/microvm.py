"""The running microVM as the controller steers it: its devices under the API's names."""

from __future__ import annotations

from pyrovm.virtio.counters import Latency

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pyrovm.config.rate_limiter import RateLimiterConfig
    from pyrovm.config.snapshot import SnapshotCreateParams
    from pyrovm.devices.virtio_balloon import VirtioBalloon
    from pyrovm.devices.virtio_block import VirtioBlock
    from pyrovm.devices.virtio_block_vhost_user import VhostUserBlock
    from pyrovm.devices.virtio_mem import VirtioMem
    from pyrovm.devices.virtio_net import VirtioNet
    from pyrovm.devices.virtio_pmem import VirtioPmem
    from pyrovm.devices.virtio_rng import VirtioRng
    from pyrovm.machine.log import Log
    from pyrovm.machine.machine import Machine
    from pyrovm.machine.resources_open import Drive
    from pyrovm.mmds.counters import MmdsCounters
    from pyrovm.virtio.device import VirtioDevice


class Devices:
    """The virtio devices of one microVM; those of drives, networks and vsock were open before."""

    def __init__(self) -> None:
        self.balloon: VirtioBalloon | None = None
        self.drives: dict[str, Drive] = {}  # the records of ``blocks``, kept up to date
        self.blocks: dict[str, VirtioBlock | VhostUserBlock] = {}
        self.nets: dict[str, VirtioNet] = {}
        self.pmem: dict[str, VirtioPmem] = {}
        self.vsock: VirtioDevice | None = None
        self.entropy: VirtioRng | None = None
        self.memory_hotplug: VirtioMem | None = None
        self.mmds_counters: MmdsCounters | None = None

    def in_attach_order(self) -> list[VirtioDevice]:
        """The order fixes windows and interrupts, so it is part of the contract."""
        return [
            device
            for device in (
                self.balloon,
                *self.blocks.values(),
                *self.nets.values(),
                *self.pmem.values(),
                self.vsock,
                self.entropy,
                self.memory_hotplug,
            )
            if device is not None
        ]

    def close_late(self) -> None:
        """Close what was made at the start: a failed start keeps only what was open before."""
        for device in (self.balloon, *self.pmem.values(), self.entropy, self.memory_hotplug):
            if device is not None:
                device.close()


class MicroVm:
    """A built machine under the names of the API; every device is touched under its slot's lock."""

    def __init__(self, machine: Machine, devices: Devices, log: Log) -> None:
        self.machine = machine
        self.devices = devices
        self._log = log
        self._vcpu_counters = VcpuCounters(machine)
        self._interrupt_counters = InterruptCounters(machine)

    # -------------------------------------------------------------- life cycle

    def pause(self) -> None:
        """Stop vCPUs and devices."""
        self.machine.pause()

    def resume(self) -> None:
        """Let them go on."""
        self._vcpu_counters.kvmclock_ctrl_fails += self.machine.resume()

    def create_snapshot(self, config: dict[str, Any], params: SnapshotCreateParams) -> None:
        """Save the paused machine, configured as ``config`` says, into files.

        Raises:
            StateError, HostError: it cannot be saved; the machine can go on.
        """
        from pyrovm.machine.snapshots import create_snapshot

        file = create_snapshot(self.machine, config, params)
        self._log.info(f"Snapshot: {file.written_bytes >> 10} KiB of guest memory written.")

    def close(self) -> None:
        """End all threads and release everything; devices too."""
        self.machine.close()

    def send_ctrl_alt_del(self) -> None:
        """Press the keys."""
        self.machine.send_ctrl_alt_del()

    # ----------------------------------------------------------------- metrics

    def counters(self) -> Iterator[tuple[str, str | None, object]]:
        """(group, device id or None, object with the group's fields)."""
        machine, devices = self.machine, self.devices
        yield "vcpu", None, self._vcpu_counters
        yield "interrupts", None, self._interrupt_counters
        yield "uart", None, machine.serial.counters
        yield "i8042", None, machine.i8042.counters
        for drive_id, block in devices.blocks.items():
            yield block.metrics_group, drive_id, block.counters
        for iface_id, net in devices.nets.items():
            yield "net", iface_id, net.counters
        for pmem_id, pmem in devices.pmem.items():
            yield "pmem", pmem_id, pmem.counters
        for group, device in (
            ("balloon", devices.balloon),
            ("vsock", devices.vsock),
            ("entropy", devices.entropy),
            ("memory_hotplug", devices.memory_hotplug),
        ):
            if device is not None:
                yield group, None, device.counters
        if devices.mmds_counters is not None:
            yield "mmds", None, devices.mmds_counters

    # ----------------------------------------------------- drives, pmem, network

    def _locked(self, device: VirtioDevice) -> Any:
        """The lock under which ``device`` may be touched."""
        return self.machine.slot_of(device).lock

    def update_drive_path(self, drive_id: str, path: str) -> None:
        """Go on with another file.

        Raises:
            HostError: it cannot be opened; the drive keeps the old one.
        """
        from pyrovm.machine.factory_block import update_block_path

        config = self.devices.drives[drive_id].config.replaced(path_on_host=path)
        device: Any = self.devices.blocks[drive_id]
        with self._locked(device):
            update_block_path(device, config, warn=self._log.warn)

    def update_drive_limiter(self, drive_id: str, update: RateLimiterConfig) -> None:
        """Install the buckets that ``update`` names."""
        self._update_limiter(self.devices.blocks[drive_id], "update_limiter", update)

    def refresh_drive(self, drive_id: str) -> None:
        """Read the configuration of a vhost-user drive again.

        Raises:
            HostError: the other process did not answer.
        """
        device: Any = self.devices.blocks[drive_id]
        with self._locked(device):
            device.refresh_config()

    def update_pmem_limiter(self, pmem_id: str, update: RateLimiterConfig) -> None:
        """Install the buckets that ``update`` names."""
        self._update_limiter(self.devices.pmem[pmem_id], "update_limiter", update)

    def update_net_limiters(
        self, iface_id: str, rx: RateLimiterConfig | None, tx: RateLimiterConfig | None
    ) -> None:
        """Install the buckets that are named, for each direction."""
        device = self.devices.nets[iface_id]
        for method, update in (("update_rx_limiter", rx), ("update_tx_limiter", tx)):
            if update is not None:
                self._update_limiter(device, method, update)

    def _update_limiter(self, device: Any, method: str, update: RateLimiterConfig) -> None:
        from pyrovm.machine.factory_limiter import update_limiter

        with self._locked(device):
            update_limiter(getattr(device, method), update)

    # ------------------------------------------------------------------ memory

    def _with_balloon(self, call: Callable[[VirtioBalloon], Any]) -> Any:
        balloon = self.devices.balloon
        assert balloon is not None, "the controller checks that there is one"
        with self._locked(balloon):
            return call(balloon)

    def update_balloon(self, amount_mib: int) -> None:
        """Set the target.

        Raises:
            StateError: the driver is not up.
        """
        self._with_balloon(lambda balloon: balloon.update_size(amount_mib))

    def update_balloon_interval(self, seconds: int) -> None:
        """Poll statistics at another interval."""
        self._with_balloon(lambda balloon: balloon.update_stats_interval(seconds))

    def balloon_stats(self) -> dict[str, int]:
        """What the guest told last."""
        stats: dict[str, int] = self._with_balloon(lambda balloon: balloon.stats())
        return stats

    def start_balloon_hinting(self, acknowledge_on_stop: bool) -> None:
        """Begin a hinting run."""
        self._with_balloon(lambda balloon: balloon.start_hinting(acknowledge_on_stop))

    def stop_balloon_hinting(self) -> None:
        """End it."""
        self._with_balloon(lambda balloon: balloon.stop_hinting())

    def balloon_hinting_status(self) -> tuple[int, int | None]:
        """The last commands of host and guest."""
        status = self._with_balloon(lambda balloon: balloon.hinting_status())
        return status["host_cmd"], status["guest_cmd"]

    def _hotplug(self) -> VirtioMem:
        device = self.devices.memory_hotplug
        assert device is not None, "the controller checks that there is one"
        return device

    def update_memory_hotplug(self, requested_size_mib: int) -> None:
        """Ask the guest to plug or unplug.

        Raises:
            StateError: the driver is not up.
        """
        device = self._hotplug()
        with self._locked(device):
            device.request_size(requested_size_mib)

    def memory_hotplug_sizes(self) -> tuple[int, int]:
        """(plugged, requested) in MiB."""
        device = self._hotplug()
        with self._locked(device):
            return device.plugged_mib, device.requested_mib


class VcpuCounters:
    """The ``vcpu`` metrics, summed over all vCPUs whenever they are read."""

    def __init__(self, machine: Machine) -> None:
        self._threads = machine.threads
        self.kvmclock_ctrl_fails = 0

    @property
    def failures(self) -> int:
        """Exits that ended a vCPU."""
        return sum(thread.failures for thread in self._threads)

    def __getattr__(self, name: str) -> int | Latency:
        kind = name.removeprefix("exit_").removesuffix("_agg")
        latencies: list[Latency] = [getattr(thread, kind) for thread in self._threads]
        if not name.endswith("_agg"):
            return sum(latency.count for latency in latencies)
        total = Latency()
        for latency in latencies:
            total.merge(latency)
        return total


class InterruptCounters:
    """The ``interrupts`` metrics, summed over all devices whenever they are read."""

    def __init__(self, machine: Machine) -> None:
        self._slots = machine.slots

    @property
    def triggers(self) -> int:
        """Interrupts raised by virtio devices."""
        return sum(slot.interrupts for slot in self._slots)

    @property
    def config_updates(self) -> int:
        """Routing changes: with fixed lines there are none."""
        return 0
