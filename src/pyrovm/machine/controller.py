"""The life cycle of the one machine of this process: what may be asked for when, and what happens.

    Not started --InstanceStart--> Running <--PATCH /vm--> Paused

Each method is one action of the API.  It raises :class:`Fault` with the text that the client gets;
the inner part of the text comes from :class:`Resources` before the start and from the machine after
it.  Actions on devices of a running machine are methods of :attr:`Controller.running`.
"""

from __future__ import annotations

from time import monotonic_ns

from pyrovm.errors import ConfigError, PyrovmError
from pyrovm.machine.controller_fault import (
    NOT_AFTER_START,
    NOT_BEFORE_START,
    PAYLOAD_TOO_LARGE,
    Fault,
    prefixed,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from pyrovm.config.balloon import BalloonConfig
    from pyrovm.config.boot_source import BootSourceConfig
    from pyrovm.config.branch import BranchParams
    from pyrovm.config.cpu_template import CpuTemplate
    from pyrovm.config.drive import DriveConfig
    from pyrovm.config.entropy import EntropyConfig
    from pyrovm.config.logger import LoggerConfig
    from pyrovm.config.machine import MachineConfigUpdate
    from pyrovm.config.memory_hotplug import MemoryHotplugConfig
    from pyrovm.config.metrics import MetricsConfig
    from pyrovm.config.mmds import MmdsConfig
    from pyrovm.config.network import NetworkInterfaceConfig
    from pyrovm.config.pmem import PmemConfig
    from pyrovm.config.serial import SerialConfig
    from pyrovm.config.snapshot import SnapshotCreateParams, SnapshotLoadParams
    from pyrovm.config.vsock import VsockConfig
    from pyrovm.machine.controller_protocols import Brancher, Builder, Loader, RunningMachine
    from pyrovm.machine.controller_running import RunningDevices
    from pyrovm.machine.log import Log
    from pyrovm.machine.machine import StopReason
    from pyrovm.machine.metrics import Metrics, PeriodicMetrics
    from pyrovm.machine.resources import Resources
    from pyrovm.mmds.store import DataStore

    T = TypeVar("T")

NOT_STARTED, RUNNING, PAUSED = "Not started", "Running", "Paused"
APP_NAME = "Firecracker"
EXIT_OK, EXIT_GENERIC_ERROR = 0, 1
PCI_DISABLED = "PCI is not enabled"
LOAD_AFTER_CONFIGURATION = (
    "Loading a microVM snapshot not allowed after configuring boot-specific resources."
)
HUGE_PAGES_FROM_FILE = (
    "Failed to load guest memory: Cannot restore hugetlbfs backed snapshot by mapping the memory "
    "file. Please use uffd."
)
START = "Start microvm error: "
INTERNAL = "Internal VMM error: "
CREATE_SNAPSHOT = "Create snapshot error: "
LOAD_SNAPSHOT = "Load snapshot error: "
RESTORE = "Failed to restore from snapshot: "
BRANCH = "Branch error: "
NS_PER_US = 1000


class Controller:
    """Owns ``resources`` and, once started, the machine.

    ``on_exit(code)`` is called when the process shall end: the guest has stopped the machine, or an
    action has failed for good, whose response still has to go out.
    """

    def __init__(
        self,
        resources: Resources,
        build: Builder,
        load: Loader,
        *,
        version: str,
        log: Log,
        metrics: Metrics,
        periodic: PeriodicMetrics,
        on_exit: Callable[[int], None],
        brancher: Callable[[], Brancher] | None = None,
    ) -> None:
        self.resources = resources
        self.state = NOT_STARTED
        self._machine: RunningMachine | None = None
        self._running: RunningDevices | None = None
        self._build = build
        self._load = load
        self._version = version
        self._log = log
        self._metrics = metrics
        self._periodic = periodic
        self._on_exit = on_exit
        self._boot_path_taken = False  # from then on no snapshot may be loaded
        self._make_brancher = brancher
        self._brancher: Brancher | None = None  # once something was branched

    # ------------------------------------------------------------------- rules

    @property
    def running(self) -> RunningDevices:
        """The devices of the running machine.

        Raises:
            Fault: it has not been started.
        """
        if self._running is None:
            raise Fault(NOT_BEFORE_START)
        return self._running

    def _started(self) -> RunningMachine:
        if self._machine is None:
            raise Fault(NOT_BEFORE_START)
        return self._machine

    @property
    def may_load(self) -> bool:
        """Whether a snapshot may still be loaded."""
        return self._machine is None and not self._boot_path_taken

    def _not_started(self) -> None:
        if self._machine is not None:
            raise Fault(NOT_AFTER_START)

    def _configure(self, prefix: str, change: Callable[[T], None], config: T) -> None:
        """Make a change that belongs to booting; even a failed one rules out loading."""
        self._not_started()
        self._boot_path_taken = True
        try:
            change(config)
        except PyrovmError as error:
            raise prefixed(prefix, error) from None

    def _attach(self, prefix: str, change: Callable[[T], None], config: T) -> None:
        """As :meth:`_configure`, for devices that could be plugged into a running machine."""
        if self._machine is not None:
            raise Fault(PCI_DISABLED)
        self._configure(prefix, change, config)

    # ------------------------------------------------------------------- state

    def instance_info(self) -> dict[str, str]:
        """``GET /``."""
        return {
            "id": self.resources.instance_id,
            "state": self.state,
            "vmm_version": self._version,
            "app_name": APP_NAME,
        }

    def version(self) -> str:
        """The version of the API and of the program."""
        return self._version

    def vm_config(self) -> dict[str, Any]:
        """``GET /vm/config``."""
        return self.resources.to_json()

    # ------------------------------------------------------- before the start

    def set_logger(self, config: LoggerConfig) -> None:
        """``PUT /logger``."""
        self._not_started()
        try:
            self._log.update(config)
        except PyrovmError as error:
            raise prefixed("Logger error: ", error) from None

    def set_metrics(self, config: MetricsConfig) -> None:
        """``PUT /metrics``."""
        self._not_started()
        try:
            self._metrics.configure(config)
        except PyrovmError as error:
            raise prefixed("Metrics error: ", error) from None

    def set_serial(self, config: SerialConfig) -> None:
        """``PUT /serial``."""
        self._not_started()
        self.resources.serial = config

    def set_cpu_template(self, template: CpuTemplate) -> None:
        """``PUT /cpu-config``."""
        self._not_started()
        self.resources.set_cpu_template(template)

    def update_machine_config(self, update: MachineConfigUpdate) -> None:
        """``PUT`` and ``PATCH /machine-config``."""
        self._configure("Machine config error: ", self.resources.update_machine, update)

    def set_boot_source(self, config: BootSourceConfig) -> None:
        """``PUT /boot-source``."""
        self._configure("Boot source error: ", self.resources.set_boot_source, config)

    def put_drive(self, config: DriveConfig) -> None:
        """``PUT /drives/{drive_id}``."""
        self._attach("Drive config error: ", self.resources.put_drive, config)

    def put_pmem(self, config: PmemConfig) -> None:
        """``PUT /pmem/{id}``."""
        self._attach("Pmem config error: ", self.resources.put_pmem, config)

    def put_network(self, config: NetworkInterfaceConfig) -> None:
        """``PUT /network-interfaces/{iface_id}``."""
        self._attach("Network config error: ", self.resources.put_network, config)

    def unplug(self) -> None:
        """``DELETE`` of a device, which only machines with PCI can do."""
        self._started()
        raise Fault(PCI_DISABLED)

    def set_vsock(self, config: VsockConfig) -> None:
        """``PUT /vsock``."""
        self._configure("Vsock config error: ", self.resources.put_vsock, config)

    def set_balloon(self, config: BalloonConfig) -> None:
        """``PUT /balloon``."""
        self._configure("Balloon config error: ", self.resources.set_balloon, config)

    def set_entropy(self, config: EntropyConfig) -> None:
        """``PUT /entropy``."""
        self._configure("Entropy config error: ", self.resources.set_entropy, config)

    def set_memory_hotplug(self, config: MemoryHotplugConfig) -> None:
        """``PUT /hotplug/memory``."""
        self._configure("Memory hotplug config error: ", self.resources.set_memory_hotplug, config)

    def set_mmds_config(self, config: MmdsConfig) -> None:
        """``PUT /mmds/config``."""
        self._configure("MMMDS config error: ", self.resources.set_mmds, config)

    def balloon_config(self) -> BalloonConfig:
        """``GET /balloon``, at any time."""
        if self._running is not None:
            return self._running.balloon_config()
        if self.resources.balloon is None:
            raise Fault("Balloon config error: No balloon device found.")
        return self.resources.balloon

    # -------------------------------------------------------------------- MMDS

    def _store(self) -> DataStore:
        if self._machine is not None and not self.resources.has_mmds:
            raise Fault("MMDS error: The MMDS data store is not initialized.")
        return self.resources.store()

    def get_mmds(self) -> Any:
        """``GET /mmds``."""
        return self._store().get()

    def put_mmds(self, value: Any) -> None:
        """``PUT /mmds``."""
        self._change_store(self._store().put, value)

    def patch_mmds(self, value: Any) -> None:
        """``PATCH /mmds``."""
        self._change_store(self._store().patch, value)

    def _change_store(self, change: Callable[[Any], None], value: Any) -> None:
        from pyrovm.mmds.store import StoreLimitError

        try:
            change(value)
        except StoreLimitError as error:
            raise Fault(f"MMDS limit exceeded error: {error}", PAYLOAD_TOO_LARGE) from None
        except PyrovmError as error:
            raise prefixed("MMDS error: ", error) from None

    # -------------------------------------------------------------- life cycle

    def start(self) -> None:
        """Action ``InstanceStart``: build the machine and let it run."""
        self._not_started()
        resources = self.resources
        if resources.kernel_fd < 0:
            raise Fault(f"{START}Cannot start microvm without kernel configuration.")
        try:
            machine = self._build(resources, self.stopped)
        except PyrovmError as error:
            raise prefixed(START, error) from None
        self._take_over(machine, RUNNING)
        resources.close_boot_files()

    def pause(self) -> None:
        """``PATCH /vm`` to Paused: guest, devices and the metrics' clock stand still."""
        began = monotonic_ns()
        try:
            self._started().pause()
        except PyrovmError as error:
            raise prefixed(INTERNAL, error) from None
        self.state = PAUSED
        self._periodic.suspend()
        self._store_latency("vmm_pause_vm", began)

    def resume(self) -> None:
        """``PATCH /vm`` to Resumed."""
        began = monotonic_ns()
        machine = self._started()
        try:
            if self._brancher is not None:
                self._brancher.check_resume(self.resources)
            machine.resume()
        except PyrovmError as error:
            raise prefixed(INTERNAL, error) from None
        if self.state == PAUSED:
            self._periodic.resume()
        self.state = RUNNING
        self._store_latency("vmm_resume_vm", began)

    def _store_latency(self, field: str, began_ns: int) -> None:
        self._metrics.store("latencies_us", field, (monotonic_ns() - began_ns) // NS_PER_US)

    def flush_metrics(self) -> None:
        """Action ``FlushMetrics``: write a line now, if there is a place to write it."""
        self._started()
        self._metrics.write()

    def send_ctrl_alt_del(self) -> None:
        """Action ``SendCtrlAltDel``: the guest decides what to make of it."""
        machine = self._started()
        try:
            machine.send_ctrl_alt_del()
        except PyrovmError as error:
            raise prefixed(INTERNAL, error) from None

    def create_snapshot(self, params: SnapshotCreateParams) -> None:
        """``PUT /snapshot/create``."""
        machine = self._started()
        if self.state != PAUSED:
            raise Fault(f"{CREATE_SNAPSHOT}save/restore unavailable while running")
        began = monotonic_ns()
        try:
            machine.create_snapshot(self.resources.to_json(), params)
        except PyrovmError as error:
            raise prefixed(CREATE_SNAPSHOT, error) from None
        self._store_latency(f"vmm_{params.snapshot_type.lower()}_create_snapshot", began)

    def branch(self, params: BranchParams) -> dict[str, Any]:
        """``PUT /branch``: copies of the machine, which goes on as it did; what the client gets."""
        machine = self._started()
        if self._make_brancher is None:
            raise Fault(f"{BRANCH}this process makes no branches")
        try:
            if self._brancher is None:
                self._brancher = self._make_brancher()
            return self._brancher.branch(machine, self.resources, params)
        except PyrovmError as error:
            raise prefixed(BRANCH, error) from None
        except MemoryError:  # the machine need not pay for its copies
            raise Fault(f"{BRANCH}Out of memory (RLIMIT_AS, RLIMIT_DATA or the host's)") from None

    def branches(self) -> dict[str, Any]:
        """``GET /branch``: what has become of snapshots that were written meanwhile."""
        self._started()
        return {"snapshots": [] if self._brancher is None else self._brancher.snapshots()}

    def load_snapshot(self, params: SnapshotLoadParams) -> None:
        """``PUT /snapshot/load``: once it is tried in earnest, a failure ends the process."""
        self._not_started()
        if not self.may_load:
            raise Fault(f"{LOAD_SNAPSHOT}{LOAD_AFTER_CONFIGURATION}")
        began = monotonic_ns()
        try:
            self._load_machine(params)
        except PyrovmError as error:
            self._on_exit(EXIT_GENERIC_ERROR)
            raise prefixed(f"{LOAD_SNAPSHOT}{RESTORE}", error) from None
        except Fault:  # it was there and could not go on
            self._on_exit(EXIT_GENERIC_ERROR)
            raise
        self._store_latency("vmm_load_snapshot", began)

    def _load_machine(self, params: SnapshotLoadParams) -> None:
        if params.huge_pages == "2M" and params.mem_backend.backend_type == "File":
            raise ConfigError(HUGE_PAGES_FROM_FILE)
        self.adopt(self._load(self.resources, params, self.stopped), resume=params.resume_vm)

    def adopt(self, machine: RunningMachine, *, resume: bool) -> None:
        """Go on with a machine of ``resources`` that stands still.

        Raises:
            Fault: it cannot be resumed.
        """
        self._take_over(machine, PAUSED)
        if resume:
            self.resume()
        else:
            self._periodic.suspend()

    def _take_over(self, machine: RunningMachine, state: str) -> None:
        """There is a machine."""
        from pyrovm.machine.controller_running import RunningDevices

        self._machine = machine
        self._running = RunningDevices(machine, self.resources)
        self.state = state
        self._metrics.sources = machine.counters
        self._periodic.start()

    def stopped(self, reason: StopReason) -> None:
        """The guest or a fault has ended the machine."""
        if reason.ok:
            self._log.info(reason.text)
        else:
            self._log.error(reason.text)
        self._log.info("Vmm is stopping.")
        self._on_exit(EXIT_OK if reason.ok else EXIT_GENERIC_ERROR)

    def close(self) -> None:
        """The process ends: write the last metrics, then release everything."""
        self._periodic.suspend()
        self._metrics.write()
        if self._machine is not None:
            self._machine.close()
        else:
            self.resources.close()
