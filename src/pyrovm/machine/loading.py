"""From a snapshot's files to a machine that stands still: what ``PUT /snapshot/load`` does."""

from __future__ import annotations

from importlib import import_module

from pyrovm.config.machine import MachineConfig
from pyrovm.config.serde.schema import parse, sequence
from pyrovm.config.serde.writer import dumps
from pyrovm.errors import ConfigError, HostError, PyrovmError, SnapshotError
from pyrovm.machine.machine import StopReason
from pyrovm.machine.restoring import Saved
from pyrovm.machine.saved_memory import MemoryOfFile, MemoryOfHandler
from pyrovm.snapshot import state
from pyrovm.snapshot.layout import Layout
from pyrovm.snapshot.working_set import RECORD_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyrovm.config.snapshot import SnapshotLoadParams
    from pyrovm.machine.assembly import Assembler
    from pyrovm.machine.microvm import MicroVm
    from pyrovm.machine.resources import Resources

STATE = "Failed to get snapshot state from file: "
BUILD = "Failed to build microVM from snapshot: "
DEVICES = f"{BUILD}Failed to restore devices: "
KIND = "machine"

# Of what ``GET /vm/config`` prints, that which is configured again: where its record is, how it is
# parsed, whether there may be several.  What the snapshot has not is not imported.
_RECORDS = {
    "machine-config": ("machine", "MACHINE_CONFIG", False),
    "boot-source": ("boot_source", "BOOT_SOURCE", False),
    "drives": ("drive", "DRIVE_CONFIG", True),
    "network-interfaces": ("network", "NETWORK_INTERFACE_CONFIG", True),
    "pmem": ("pmem", "PMEM_CONFIG", True),
    "vsock": ("vsock", "VSOCK_CONFIG", False),
    "balloon": ("balloon", "BALLOON_CONFIG", False),
    "entropy": ("entropy", "ENTROPY_CONFIG", False),
    "memory-hotplug": ("memory_hotplug", "MEMORY_HOTPLUG_CONFIG", False),
    "mmds-config": ("mmds", "MMDS_CONFIG", False),
}


def load(
    assembler: Assembler,
    resources: Resources,
    params: SnapshotLoadParams,
    on_stop: Callable[[StopReason], None],
) -> MicroVm:
    """Make ``resources``, in which nothing was configured, those of the snapshot, and its machine.

    Raises:
        PyrovmError: it cannot be; ``resources`` may have a part of its devices already.
    """
    try:
        found = state.read(params.snapshot_path)
        if found.kind != KIND:
            raise SnapshotError(
                f"{params.snapshot_path} is the snapshot of a {found.kind}; a {KIND}'s is needed"
            )
    except PyrovmError as error:
        raise _wrapped(STATE, error) from None
    layout = Layout.of(found)
    document = overridden(found["config"], params)
    configure_machine(resources, document, params)
    config = resources.machine_config
    from_handler = params.mem_backend.backend_type == "Uffd"
    memory = (MemoryOfHandler if from_handler else MemoryOfFile)(
        params.mem_backend.backend_path, layout, config.mem_size_mib, config.huge_pages
    )
    try:
        try:
            configure_devices(resources, document)
        except PyrovmError as error:
            raise _wrapped(DEVICES, error) from None
        saved = Saved(
            found.values,
            memory,
            saved_ns=found.created_ns,
            advance=params.clock_realtime,
        )
        try:
            microvm = assembler.restore(resources, saved, on_stop)
        except PyrovmError as error:
            raise _wrapped(BUILD, error) from None
    except BaseException:
        memory.close()
        raise
    machine = microvm.machine
    machine.on_close_last(memory.close)
    if isinstance(memory, MemoryOfHandler):
        machine.on_close(memory.stop_faults)  # before KVM's side of it
        memory.watch(
            machine.loop, lambda reason: machine.end(StopReason(False, f"guest memory: {reason}"))
        )
    elif memory.records:
        timer = machine.loop.timer(memory.record)
        timer.arm(RECORD_SECONDS)
        machine.on_close(timer.disarm)
        machine.on_close(memory.record)
    return microvm


def overridden(config: Any, params: SnapshotLoadParams) -> dict[str, Any]:
    """The records of the saved configuration, by its keys, with what this load has otherwise.

    Raises:
        ConfigError: there is no such device.
        SnapshotError: it is no configuration.
    """
    try:
        for override in params.network_overrides:
            for interface in config["network-interfaces"]:
                if interface["iface_id"] == override.iface_id:
                    interface["host_dev_name"] = override.host_dev_name
                    break
            else:
                raise ConfigError("Unknown Network Device.")
        if params.vsock_override is not None:
            if config["vsock"] is None:
                raise ConfigError("Unknown Vsock Device.")
            config["vsock"]["uds_path"] = params.vsock_override.uds_path
        return {name: _parsed(name, config[name]) for name in _RECORDS}
    except ConfigError as error:
        if str(error).startswith("Unknown "):
            raise
        raise SnapshotError(f"Snapshot state is invalid: config: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise SnapshotError(f"Snapshot state is invalid: config: {error!r}") from None


def _parsed(name: str, value: Any) -> Any:
    """The record, or records, of one key of the configuration."""
    module, reader, is_list = _RECORDS[name]
    if value is None or value == []:
        return value
    read = getattr(import_module(f"pyrovm.config.{module}"), reader)
    if is_list:
        read = sequence(read)
    return parse(read, dumps(value).encode("utf-8", "surrogateescape"))


def configure_machine(
    resources: Resources, document: dict[str, Any], params: SnapshotLoadParams
) -> None:
    """Make ``resources`` those of a machine like the saved one, as ``params`` have it.

    Raises:
        SnapshotError: it is no configuration.
    """
    for name in ("machine-config", "boot-source"):
        if document[name] is None:
            raise SnapshotError(f"Snapshot state is invalid: config: no {name}")
    try:
        config = document["machine-config"].apply(MachineConfig())
    except ConfigError as error:
        raise SnapshotError(f"Snapshot state is invalid: machine-config: {error}") from None
    resources.machine_config = MachineConfig(
        vcpu_count=config.vcpu_count,
        mem_size_mib=config.mem_size_mib,
        smt=config.smt,
        cpu_template=config.cpu_template,
        track_dirty_pages=params.track_dirty_pages,
        huge_pages=config.huge_pages if params.huge_pages == "Snapshot" else params.huge_pages,
    )
    resources.cpu_template = None
    resources.boot_source = document["boot-source"]


def configure_devices(resources: Resources, document: dict[str, Any]) -> None:
    """Open what the devices need of the host, in their order.

    Raises:
        ConfigError, HostError: something is not there any more.
    """
    for drive in document["drives"]:
        resources.put_drive(drive)
    for network in document["network-interfaces"]:
        resources.put_network(network)
    for pmem in document["pmem"]:
        resources.put_pmem(pmem)
    if document["vsock"] is not None:
        resources.put_vsock(document["vsock"])
    if document["balloon"] is not None:
        resources.set_balloon(document["balloon"])
    if document["entropy"] is not None:
        resources.set_entropy(document["entropy"])
    if document["memory-hotplug"] is not None:
        resources.set_memory_hotplug(document["memory-hotplug"])
    if document["mmds-config"] is not None:
        resources.set_mmds(document["mmds-config"])


def _wrapped(prefix: str, error: PyrovmError) -> PyrovmError:
    """``error`` of the same kind with ``prefix`` before its text."""
    if isinstance(error, HostError):
        return type(error)(f"{prefix}{error}", error.errno)
    return type(error)(f"{prefix}{error}")
