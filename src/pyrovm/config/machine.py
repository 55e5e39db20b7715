"""``/machine-config``: vCPUs, memory size, CPU template, huge pages."""

from __future__ import annotations

from pyrovm.config.record import Record
from pyrovm.config.serde.schema import boolean, enum, optional, required, struct, u8, usize
from pyrovm.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_VCPUS = 32
CPU_TEMPLATES = ("C3", "T2", "T2S", "None", "T2CL", "T2A")
HUGE_PAGES = ("None", "Transparent", "2M")


class MachineConfig(Record):
    """The machine; ``cpu_template`` is the name of a static template or None."""

    __slots__ = (
        "cpu_template",
        "huge_pages",
        "mem_size_mib",
        "smt",
        "track_dirty_pages",
        "vcpu_count",
    )

    def __init__(
        self,
        *,
        vcpu_count: int = 1,
        mem_size_mib: int = 128,
        smt: bool = False,
        cpu_template: str | None = None,
        track_dirty_pages: bool = False,
        huge_pages: str = "None",
    ) -> None:
        self.vcpu_count = vcpu_count
        self.mem_size_mib = mem_size_mib
        self.smt = smt
        self.cpu_template = cpu_template
        self.track_dirty_pages = track_dirty_pages
        self.huge_pages = huge_pages

    def to_json(self) -> Any:
        fields: dict[str, Any] = {
            "vcpu_count": self.vcpu_count,
            "mem_size_mib": self.mem_size_mib,
            "smt": self.smt,
        }
        if self.cpu_template is not None:
            fields["cpu_template"] = self.cpu_template
        fields["track_dirty_pages"] = self.track_dirty_pages
        fields["huge_pages"] = self.huge_pages
        return fields


class MachineConfigUpdate(Record):
    """A PUT or a PATCH; a field that is None stays as it is.

    PUT fills in the defaults of all fields but ``cpu_template``, whose absence keeps the earlier
    template in either call; the template ``"None"`` removes it.
    """

    __slots__ = MachineConfig.__slots__

    def __init__(
        self,
        *,
        vcpu_count: int | None = None,
        mem_size_mib: int | None = None,
        smt: bool | None = None,
        cpu_template: str | None = None,
        track_dirty_pages: bool | None = None,
        huge_pages: str | None = None,
    ) -> None:
        self.vcpu_count = vcpu_count
        self.mem_size_mib = mem_size_mib
        self.smt = smt
        self.cpu_template = cpu_template
        self.track_dirty_pages = track_dirty_pages
        self.huge_pages = huge_pages

    @property
    def is_empty(self) -> bool:
        """Whether it changes nothing."""
        return all(getattr(self, name) is None for name in self.__slots__)

    def apply(self, config: MachineConfig) -> MachineConfig:
        """``config`` with this update, checked as a whole.

        Raises:
            ConfigError: the result is no machine.
        """
        fields = {}
        for name in self.__slots__:
            new = getattr(self, name)
            fields[name] = getattr(config, name) if new is None else new
        if fields["cpu_template"] == "None":
            fields["cpu_template"] = None
        merged = MachineConfig(**fields)
        check_machine(merged)
        return merged


def check_machine(config: MachineConfig) -> None:
    """Check what can be checked without looking at the host.

    Raises:
        ConfigError: the number of vCPUs or the memory size is not allowed.
    """
    count = config.vcpu_count
    if not 0 < count <= MAX_VCPUS or (config.smt and count > 1 and count % 2):
        raise ConfigError(
            "The number of vCPUs must be greater than 0, less than 32 and must be 1 or an even "
            "number if SMT is enabled."
        )
    if config.mem_size_mib == 0 or (config.huge_pages != "None" and config.mem_size_mib % 2):
        raise ConfigError(
            "The memory size (MiB) is either 0, or not a multiple of the configured page size."
        )


_template = enum(*CPU_TEMPLATES)
_huge_pages = enum(*HUGE_PAGES)

MACHINE_CONFIG = struct(
    "MachineConfig",
    (
        required("vcpu_count", u8),
        required("mem_size_mib", usize),
        optional("smt", boolean, False),
        optional("cpu_template", _template),
        optional("track_dirty_pages", boolean, False),
        optional("huge_pages", _huge_pages, "None"),
    ),
    MachineConfigUpdate,
)
MACHINE_CONFIG_UPDATE = struct(
    "MachineConfigUpdate",
    (
        optional("vcpu_count", u8),
        optional("mem_size_mib", usize),
        optional("smt", boolean),
        optional("cpu_template", _template),
        optional("track_dirty_pages", boolean),
        optional("huge_pages", _huge_pages),
    ),
    MachineConfigUpdate,
)
