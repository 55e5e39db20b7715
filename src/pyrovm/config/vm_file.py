"""The document of ``--config-file``: one JSON object, keys as in ``GET /vm/config``."""

from __future__ import annotations

from pyrovm.config.balloon import BALLOON_CONFIG
from pyrovm.config.boot_source import BOOT_SOURCE
from pyrovm.config.cpu_template import CPU_TEMPLATE
from pyrovm.config.drive import DRIVE_CONFIG
from pyrovm.config.entropy import ENTROPY_CONFIG
from pyrovm.config.logger import LOGGER_CONFIG
from pyrovm.config.machine import MACHINE_CONFIG
from pyrovm.config.memory_hotplug import MEMORY_HOTPLUG_CONFIG
from pyrovm.config.metrics import METRICS_CONFIG
from pyrovm.config.mmds import MMDS_CONFIG
from pyrovm.config.network import NETWORK_INTERFACE_CONFIG
from pyrovm.config.pmem import PMEM_CONFIG
from pyrovm.config.record import Record
from pyrovm.config.serde.reader import QUOTE, Reader
from pyrovm.config.serde.schema import optional, required, sequence, struct
from pyrovm.config.vsock import VSOCK_CONFIG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyrovm.config.balloon import BalloonConfig
    from pyrovm.config.boot_source import BootSourceConfig
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
    from pyrovm.config.vsock import VsockConfig


class VmFile(Record):
    """A whole machine; ``cpu_config`` is a template or the path of one."""

    __slots__ = (
        "balloon",
        "boot_source",
        "cpu_config",
        "drives",
        "entropy",
        "logger",
        "machine_config",
        "memory_hotplug",
        "metrics",
        "mmds_config",
        "network_interfaces",
        "pmem",
        "vsock",
    )

    def __init__(
        self,
        *,
        boot_source: BootSourceConfig,
        drives: Sequence[DriveConfig],
        balloon: BalloonConfig | None = None,
        cpu_config: CpuTemplate | str | None = None,
        entropy: EntropyConfig | None = None,
        logger: LoggerConfig | None = None,
        machine_config: MachineConfigUpdate | None = None,
        memory_hotplug: MemoryHotplugConfig | None = None,
        metrics: MetricsConfig | None = None,
        mmds_config: MmdsConfig | None = None,
        network_interfaces: Sequence[NetworkInterfaceConfig] = (),
        pmem: Sequence[PmemConfig] = (),
        vsock: VsockConfig | None = None,
    ) -> None:
        self.balloon = balloon
        self.boot_source = boot_source
        self.cpu_config = cpu_config
        self.drives = list(drives)
        self.entropy = entropy
        self.logger = logger
        self.machine_config = machine_config
        self.memory_hotplug = memory_hotplug
        self.metrics = metrics
        self.mmds_config = mmds_config
        self.network_interfaces = list(network_interfaces)
        self.pmem = list(pmem)
        self.vsock = vsock


def _template_or_path(reader: Reader) -> CpuTemplate | str:
    if reader.peek_value() == QUOTE:
        return reader.string()
    return CPU_TEMPLATE(reader)


def _vm_file(**fields: Any) -> VmFile:
    return VmFile(**{name.replace("-", "_"): value for name, value in fields.items()})


VM_FILE = struct(
    "VmmConfig",
    (
        optional("balloon", BALLOON_CONFIG),
        required("drives", sequence(DRIVE_CONFIG)),
        required("boot-source", BOOT_SOURCE),
        optional("cpu-config", _template_or_path),
        optional("logger", LOGGER_CONFIG),
        optional("machine-config", MACHINE_CONFIG),
        optional("metrics", METRICS_CONFIG),
        optional("mmds-config", MMDS_CONFIG),
        optional("network-interfaces", sequence(NETWORK_INTERFACE_CONFIG), ()),
        optional("vsock", VSOCK_CONFIG),
        optional("entropy", ENTROPY_CONFIG),
        optional("pmem", sequence(PMEM_CONFIG), ()),
        optional("memory-hotplug", MEMORY_HOTPLUG_CONFIG),
    ),
    _vm_file,
    ignore_unknown=True,
)
