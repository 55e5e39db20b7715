"""Handlers of PUT (and DELETE): body to record, record to the controller.

A record's module is imported by the first call that needs it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyrovm.api.call import Call


def actions(call: Call) -> None:
    """``/actions``"""
    from pyrovm.config.actions import ACTION

    call.count("actions")
    action = call.parse(ACTION).action_type
    controller = call.controller
    if action == "InstanceStart":
        controller.start()
    elif action == "FlushMetrics":
        controller.flush_metrics()
    else:
        controller.send_ctrl_alt_del()


def balloon(call: Call) -> None:
    """``/balloon``"""
    from pyrovm.config.balloon import BALLOON_CONFIG

    call.controller.set_balloon(call.parse(BALLOON_CONFIG))


def boot_source(call: Call) -> None:
    """``/boot-source``"""
    from pyrovm.config.boot_source import BOOT_SOURCE

    call.count("boot_source")
    call.controller.set_boot_source(call.parse(BOOT_SOURCE))


def branch(call: Call) -> Any:
    """``/branch``, which is pyrovm's own"""
    from pyrovm.config.branch import BRANCH

    return call.controller.branch(call.parse(BRANCH))


def cpu_config(call: Call) -> None:
    """``/cpu-config``"""
    from pyrovm.config.cpu_template import CPU_TEMPLATE

    call.count("cpu_cfg")
    call.controller.set_cpu_template(call.parse(CPU_TEMPLATE))


def drives(call: Call) -> None:
    """``/drives/{drive_id}``"""
    from pyrovm.config.drive import DRIVE_CONFIG

    call.count("drive")
    drive_id = call.resource_id()
    config = call.parse(DRIVE_CONFIG)
    call.check_same_id(drive_id, config.drive_id)
    call.controller.put_drive(config)


def entropy(call: Call) -> None:
    """``/entropy``"""
    from pyrovm.config.entropy import ENTROPY_CONFIG

    call.controller.set_entropy(call.parse(ENTROPY_CONFIG))


def memory_hotplug(call: Call) -> None:
    """``/hotplug/memory``"""
    from pyrovm.config.memory_hotplug import MEMORY_HOTPLUG_CONFIG

    if call.token(1) != "memory":
        raise call.no_such_path()
    call.count("hotplug_memory")
    call.controller.set_memory_hotplug(call.parse(MEMORY_HOTPLUG_CONFIG))


def logger(call: Call) -> None:
    """``/logger``"""
    from pyrovm.config.logger import LOGGER_CONFIG

    call.count("logger")
    call.controller.set_logger(call.parse(LOGGER_CONFIG))


def machine_config(call: Call) -> None:
    """``/machine-config``"""
    from pyrovm.config.machine import MACHINE_CONFIG

    call.count("machine_cfg")
    update = call.parse(MACHINE_CONFIG)
    if update.cpu_template is not None:
        call.deprecate("PUT /machine-config: cpu_template field is deprecated.")
    call.controller.update_machine_config(update)


def metrics(call: Call) -> None:
    """``/metrics``"""
    from pyrovm.config.metrics import METRICS_CONFIG

    call.count("metrics")
    call.controller.set_metrics(call.parse(METRICS_CONFIG))


def mmds(call: Call) -> None:
    """``/mmds`` and ``/mmds/config``"""
    call.count("mmds")
    second = call.token(1)
    if second is None:
        call.controller.put_mmds(call.value())
        return
    if second != "config":
        raise call.unrecognized(second)
    from pyrovm.config.mmds import MMDS_CONFIG

    config = call.parse(MMDS_CONFIG)
    if config.version == "V1":
        call.deprecate("PUT /mmds/config: V1 is deprecated. Use V2 instead.")
    call.controller.set_mmds_config(config)


def network_interfaces(call: Call) -> None:
    """``/network-interfaces/{iface_id}``"""
    from pyrovm.config.network import NETWORK_INTERFACE_CONFIG

    call.count("network")
    iface_id = call.resource_id()
    config = call.parse(NETWORK_INTERFACE_CONFIG)
    call.check_same_iface_id(iface_id, config.iface_id)
    call.controller.put_network(config)


def pmem(call: Call) -> None:
    """``/pmem/{id}``"""
    from pyrovm.config.pmem import PMEM_CONFIG

    call.count("pmem")
    pmem_id = call.resource_id()
    config = call.parse(PMEM_CONFIG)
    call.check_same_id(pmem_id, config.id)
    call.controller.put_pmem(config)


def serial(call: Call) -> None:
    """``/serial``"""
    from pyrovm.config.serial import SERIAL_CONFIG

    call.count("serial")
    call.controller.set_serial(call.parse(SERIAL_CONFIG))


def snapshot(call: Call) -> None:
    """``/snapshot/create`` and ``/snapshot/load``"""
    from pyrovm.machine.controller_fault import Fault

    second = call.token(1)
    if second is None:
        raise Fault("Missing snapshot operation type.")
    if second == "create":
        _create_snapshot(call)
    elif second == "load":
        _load_snapshot(call)
    else:
        raise call.no_such_path(f"/snapshot/{second}")


def _create_snapshot(call: Call) -> None:
    from pyrovm.config.snapshot import SNAPSHOT_CREATE

    params = call.parse(SNAPSHOT_CREATE)
    kind = params.snapshot_type.lower()
    call.timed = (f"create {kind} snapshot", f"{kind}_create_snapshot")
    call.controller.create_snapshot(params)


def _load_snapshot(call: Call) -> None:
    from pyrovm.config.snapshot import SNAPSHOT_LOAD

    params = call.parse(SNAPSHOT_LOAD)
    call.timed = ("load snapshot", "load_snapshot")
    if params.is_deprecated:
        call.deprecate(
            "PUT /snapshot/load: mem_file_path and enable_diff_snapshots fields are deprecated."
        )
    call.controller.load_snapshot(params)


def vsock(call: Call) -> None:
    """``/vsock``"""
    from pyrovm.config.vsock import VSOCK_CONFIG

    call.count("vsock")
    config = call.parse(VSOCK_CONFIG)
    if config.vsock_id is not None:
        call.deprecate("PUT /vsock: vsock_id field is deprecated.")
    call.controller.set_vsock(config)


def unplug(call: Call) -> None:
    """DELETE of a device."""
    call.resource_id()
    call.controller.unplug()


PUTS: dict[str, Callable[[Call], Any]] = {
    "actions": actions,
    "balloon": balloon,
    "boot-source": boot_source,
    "branch": branch,
    "cpu-config": cpu_config,
    "drives": drives,
    "entropy": entropy,
    "hotplug": memory_hotplug,
    "logger": logger,
    "machine-config": machine_config,
    "metrics": metrics,
    "mmds": mmds,
    "network-interfaces": network_interfaces,
    "pmem": pmem,
    "serial": serial,
    "snapshot": snapshot,
    "vsock": vsock,
}
DELETES: dict[str, Callable[[Call], None]] = {
    "drives": unplug,
    "network-interfaces": unplug,
    "pmem": unplug,
}
