"""Handlers of PATCH: partial changes, most of them of a running machine."""

from __future__ import annotations

from pyrovm.machine.controller_fault import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.api.call import Call

EMPTY = "Empty PATCH request."


def balloon(call: Call) -> None:
    """``/balloon``, ``/balloon/statistics``, ``/balloon/hinting/{start,stop}``"""
    from pyrovm.config.balloon import BALLOON_STATS_UPDATE, BALLOON_UPDATE

    second = call.token(1)
    if second == "hinting":
        _hinting(call)
        return
    if call.body is None:
        raise Fault(EMPTY)
    if second is None:
        update = call.parse(BALLOON_UPDATE)
        call.controller.running.update_balloon(update)
    elif second == "statistics":
        stats_update = call.parse(BALLOON_STATS_UPDATE)
        call.controller.running.update_balloon_stats(stats_update)
    else:
        raise call.unrecognized(second)


def _hinting(call: Call) -> None:
    from pyrovm.config.balloon import HINTING_START, HintingStart

    third = call.token(2) or ""
    if third == "start":
        command = HintingStart() if call.body is None else call.parse(HINTING_START)
        call.controller.running.start_hinting(command)
    elif third == "stop":
        call.controller.running.stop_hinting()
    else:
        raise call.unrecognized(f"/hinting/{third}")


def drives(call: Call) -> None:
    """``/drives/{drive_id}``"""
    from pyrovm.config.drive import DRIVE_UPDATE

    call.count("drive")
    drive_id = call.resource_id()
    update = call.parse(DRIVE_UPDATE)
    call.check_same_id(drive_id, update.drive_id)
    call.controller.running.update_drive(update)


def memory_hotplug(call: Call) -> None:
    """``/hotplug/memory``"""
    from pyrovm.config.memory_hotplug import MEMORY_HOTPLUG_UPDATE

    if call.token(1) != "memory":
        raise call.no_such_path()
    call.count("hotplug_memory")
    update = call.parse(MEMORY_HOTPLUG_UPDATE)
    call.controller.running.update_memory_hotplug(update)


def machine_config(call: Call) -> None:
    """``/machine-config``"""
    from pyrovm.config.machine import MACHINE_CONFIG_UPDATE

    call.count("machine_cfg")
    update = call.parse(MACHINE_CONFIG_UPDATE)
    if update.is_empty:
        raise Fault(EMPTY)
    if update.cpu_template is not None:
        call.deprecate("PATCH /machine-config: cpu_template field is deprecated.")
    call.controller.update_machine_config(update)


def mmds(call: Call) -> None:
    """``/mmds``"""
    call.count("mmds")
    call.controller.patch_mmds(call.value())


def network_interfaces(call: Call) -> None:
    """``/network-interfaces/{iface_id}``"""
    from pyrovm.config.network import NETWORK_INTERFACE_UPDATE

    call.count("network")
    iface_id = call.resource_id()
    update = call.parse(NETWORK_INTERFACE_UPDATE)
    call.check_same_iface_id(iface_id, update.iface_id)
    call.controller.running.update_network(update)


def pmem(call: Call) -> None:
    """``/pmem/{id}``"""
    from pyrovm.config.pmem import PMEM_UPDATE

    call.count("pmem")
    pmem_id = call.resource_id()
    update = call.parse(PMEM_UPDATE)
    call.check_same_id(pmem_id, update.id)
    call.controller.running.update_pmem(update)


def vm(call: Call) -> None:
    """``/vm``"""
    from pyrovm.config.actions import VM_UPDATE

    state = call.parse(VM_UPDATE).state
    if state == "Paused":
        call.timed = ("pause vm", "pause_vm")
        call.controller.pause()
    else:
        call.timed = ("resume vm", "resume_vm")
        call.controller.resume()


PATCHES: dict[str, Callable[[Call], None]] = {
    "balloon": balloon,
    "drives": drives,
    "hotplug": memory_hotplug,
    "machine-config": machine_config,
    "mmds": mmds,
    "network-interfaces": network_interfaces,
    "pmem": pmem,
    "vm": vm,
}
