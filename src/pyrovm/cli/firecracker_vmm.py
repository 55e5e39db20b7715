"""The parts of a VMM process, each made when it is first needed.

Everything here is cheap to import: the parts' own modules are imported by whoever asks for them.
"""

from __future__ import annotations

import sys
from time import clock_gettime_ns, process_time_ns

from pyrovm.errors import ConfigError
from pyrovm.machine.loop import EventLoop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.api.http import Request
    from pyrovm.api.routes import Routes
    from pyrovm.api.server import ApiServer
    from pyrovm.cli.firecracker_console import Console
    from pyrovm.config.snapshot import SnapshotLoadParams
    from pyrovm.machine.assembly import Assembler
    from pyrovm.machine.controller import Controller
    from pyrovm.machine.controller_protocols import Brancher, RunningMachine
    from pyrovm.machine.log import Log
    from pyrovm.machine.loop import LoopTimer
    from pyrovm.machine.machine import StopReason
    from pyrovm.machine.metrics import Metrics
    from pyrovm.machine.resources import Resources
    from pyrovm.machine.restoring import Saved

CLOCK_MONOTONIC = 1
SWITCH_INTERVAL = 100e-6  # seconds
QUIET = 0.003  # seconds without a request, then memory is prepared for the start
IDLE = 0.02  # seconds without a word about booting, then what a snapshot's load needs is imported
NS_PER_US = 1000
FAILED = "Failed to build MicroVM from Json: "
PARSE_FAILED = f"{FAILED}Configuration for VMM from one single json failed: "
START_FAILED = f"{FAILED}Could not Start MicroVM from one single json: "


class Vmm:
    """One process, one loop, one machine.

    ``boot_timer``, ``enable_pci``, ``mmds_size_limit`` and ``vhost`` are set before the first
    request.
    """

    def __init__(self, instance_id: str, log: Log, *, version: str) -> None:
        self.log = log
        self.loop = EventLoop()
        self.boot_timer = False
        self.enable_pci = False
        self.mmds_size_limit = 0
        self.vhost = False
        self.own_disks: frozenset[str] = frozenset()  # drives of a clone
        self.payload_limit = 0
        self.exit_code: int | None = None
        self._instance_id = instance_id
        self._version = version
        self._metrics: Metrics | None = None
        self._controller: Controller | None = None
        self._console: Console | None = None
        self._assembler: Assembler | None = None
        self._routes: Routes | None = None
        self._quiet: LoopTimer | None = None
        self._server: ApiServer | None = None

    # ------------------------------------------------------------------- parts

    @property
    def metrics(self) -> Metrics:
        """The metrics."""
        if self._metrics is None:
            from pyrovm.machine.metrics import Metrics

            self._metrics = Metrics(self.log, self._instance_id)
        return self._metrics

    @property
    def controller(self) -> Controller:
        """The life cycle."""
        if self._controller is None:
            from pyrovm.machine.controller import Controller
            from pyrovm.machine.factory import HostDevices
            from pyrovm.machine.metrics import PeriodicMetrics
            from pyrovm.machine.resources import Resources

            resources = Resources(
                HostDevices(self.log.guest, vhost=self.vhost, own_disks=self.own_disks),
                instance_id=self._instance_id,
                mmds_size_limit=self.mmds_size_limit,
                boot_timer=self.boot_timer,
                enable_pci=self.enable_pci,
            )
            self._controller = Controller(
                resources,
                self._build,
                self._load,
                version=self._version,
                log=self.log,
                metrics=self.metrics,
                periodic=PeriodicMetrics(self.metrics, self.loop),
                on_exit=self.exit,
                brancher=self._make_brancher,
            )
        return self._controller

    def _make_brancher(self) -> Brancher:
        from pyrovm.cli.firecracker_branch import MachineBrancher

        return MachineBrancher(self)

    @property
    def version(self) -> str:
        """Of the API."""
        return self._version

    @property
    def assembler(self) -> Assembler:
        """What builds the machine."""
        if self._assembler is None:
            self._assembler = self._make_assembler()
        return self._assembler

    def _make_assembler(self) -> Assembler:
        from pyrovm.cli.firecracker_console import Console
        from pyrovm.machine.assembly import Assembler

        self._console = Console()
        return Assembler(self.loop, self.log, self._console.plan)

    def _build(self, resources: Resources, on_stop: Callable[[StopReason], None]) -> RunningMachine:
        """The controller's builder."""
        machine = self.assembler(resources, on_stop)
        if self._console is not None:
            self._console.enter()
        return machine

    def _load(
        self,
        resources: Resources,
        params: SnapshotLoadParams,
        on_stop: Callable[[StopReason], None],
    ) -> RunningMachine:
        """The controller's loader."""
        from pyrovm.machine.loading import load

        machine = load(self.assembler, resources, params, on_stop)
        if self._console is not None:
            self._console.enter()
        return machine

    def adopt(self, configure: Callable[[Resources], Saved], *, resume: bool) -> None:
        """Go on as the clone that ``configure`` makes its resources of, and tells the state of.

        Raises:
            Fault, PyrovmError: it cannot be.
        """
        controller = self.controller
        saved = configure(controller.resources)
        machine = self.assembler.restore(controller.resources, saved, controller.stopped)
        controller.adopt(machine, resume=resume)

    def watch_signals(self) -> None:
        """Handle signals from now on."""
        from pyrovm.cli.firecracker_signals import watch_signals

        watch_signals(self.log, lambda: self.metrics)

    # --------------------------------------------------------------------- API

    def open_api(self, path: str, payload_limit: int) -> None:
        """Listen on ``path``; requests are served by :meth:`run`.

        Raises:
            HostError: the socket cannot be bound.
        """
        from pyrovm.api.server import ApiServer, ApiSocket

        self.payload_limit = payload_limit
        self._server = ApiServer(
            self.loop,
            ApiSocket(path),
            self._handle,
            log=self.log.named("fc_api"),
            payload_limit=payload_limit,
        )
        self.loop.post(self._preload)

    def _preload(self) -> None:
        from pyrovm.machine.preload import preload

        preload(self.loop, self._prepare)

    def _prepare(self) -> None:
        if self._controller is None or self._controller.state == "Not started":
            self.assembler.prepare()
        if self._quiet is not None and self._is_configuring():
            self._quiet.arm(QUIET)
        self.loop.timer(self._preload_for_load).arm(IDLE)

    def _preload_for_load(self) -> None:
        from pyrovm.machine.preload import MODULES_OF_A_LOAD, preload

        if self._controller is None or self._controller.may_load:
            preload(self.loop, lambda: None, MODULES_OF_A_LOAD)

    def _handle(self, request: Request) -> bytes:
        if self._routes is None:
            from pyrovm.api.routes import Routes

            self._routes = Routes(self.controller, self.log.named("fc_api"), self.metrics)
            self._quiet = self.loop.timer(self._prepare_memory)
        answer = self._routes.handle(request)
        if self._quiet is not None and self._is_configuring():
            self._quiet.arm(QUIET)
        return answer

    def _is_configuring(self) -> bool:
        controller = self._controller
        return (
            controller is not None
            and controller.state == "Not started"
            and controller.resources.kernel_fd >= 0
        )

    def _prepare_memory(self) -> None:
        """The client has paused: what a start would copy first is copied now."""
        if self._is_configuring():
            self.assembler.prepare_memory(self.controller.resources)

    def note_start_times(
        self, start_us: int | None, start_cpu_us: int | None, parent_cpu_us: int | None
    ) -> None:
        """Put into the metrics how long it took until the API was open."""
        if start_us is not None:
            now = clock_gettime_ns(CLOCK_MONOTONIC) // NS_PER_US
            self.metrics.store("api_server", "process_startup_time_us", now - start_us)
        if start_cpu_us is not None:
            cpu = process_time_ns() // NS_PER_US - start_cpu_us + (parent_cpu_us or 0)
            self.metrics.store("api_server", "process_startup_time_cpu_us", cpu)

    # -------------------------------------------------------------- life cycle

    def configure(self, document: bytes | None, metadata: bytes | None) -> None:
        """Configure and start from a JSON document; put ``metadata`` into the store.

        Raises:
            ConfigError: the document or the metadata cannot be.
        """
        value = None
        if metadata is not None:
            from pyrovm.config.serde.value import parse_value

            try:
                value = parse_value(metadata)
            except ConfigError as error:
                from pyrovm.cli.firecracker_errors import Panic

                raise Panic(f"MMDS error: metadata provided not valid json: {error}") from None
        if document is None:
            if metadata is not None:
                self._put_metadata(value)
            return
        from pyrovm.machine.controller_fault import Fault
        from pyrovm.machine.controller_file import configure_from_file

        try:
            configure_from_file(self.controller, document, value)
        except ConfigError as error:
            raise ConfigError(f"{PARSE_FAILED}{error}") from None
        if metadata is not None:
            self.log.info("Successfully added metadata to mmds from file")
        try:
            self.controller.start()
        except Fault as fault:
            raise ConfigError(
                f"{START_FAILED}{str(fault).removeprefix('Start microvm error: ')}"
            ) from None
        self.log.info("Successfully started microvm that was configured from one single json")

    def _put_metadata(self, value: object) -> None:
        from pyrovm.errors import PyrovmError

        try:
            self.controller.resources.store().put(value)
        except PyrovmError as error:
            raise ConfigError(
                f"Failed to build MicroVM: Populating MMDS from file failed: {error}"
            ) from None
        self.log.info("Successfully added metadata to mmds from file")

    def run(self) -> int:
        """Serve until the machine or a fatal error ends the process; its exit code."""
        # A vCPU that leaves the guest while a device computes waits this long for its turn: the
        # default of 5 ms would be the guest's latency.
        sys.setswitchinterval(SWITCH_INTERVAL)
        if self.exit_code is None:
            self.loop.run()
        assert self.exit_code is not None
        return self.exit_code

    def exit(self, code: int) -> None:
        """End the process with ``code`` after what is being done now; the first code counts."""
        if self.exit_code is None:
            self.exit_code = code
            self.loop.post(self.loop.stop)

    def panicked(self) -> None:
        """Count a panic, for the last line of the metrics."""
        self.metrics.store("vmm", "panic_count", 1)

    def close(self) -> None:
        """Drop all clients, write the last metrics, release the machine."""
        if self._server is not None:
            self._server.close()
        if self._controller is not None:
            self._controller.close()
        elif self._metrics is not None:
            self._metrics.write()
        if self._assembler is not None:
            self._assembler.close()
        if self._console is not None:
            self._console.leave()
