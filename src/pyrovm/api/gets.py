"""Handlers of GET: each returns what the response's body says."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyrovm.api.call import Call


def instance_info(call: Call) -> Any:
    """``/``"""
    call.count("instance_info")
    return call.controller.instance_info()


def version(call: Call) -> Any:
    """``/version``"""
    call.count("vmm_version")
    return {"firecracker_version": call.controller.version()}


def machine_config(call: Call) -> Any:
    """``/machine-config``"""
    call.count("machine_cfg")
    return call.controller.resources.machine_config.to_json()


def branches(call: Call) -> Any:
    """``/branch``, which is pyrovm's own"""
    return call.controller.branches()


def vm_config(call: Call) -> Any:
    """``/vm/config``"""
    if call.token(1) != "config":
        raise call.no_such_path()
    return call.controller.vm_config()


def mmds(call: Call) -> Any:
    """``/mmds``: a store that holds null looks empty."""
    call.count("mmds")
    value = call.controller.get_mmds()
    return {} if value is None else value


def balloon(call: Call) -> Any:
    """``/balloon``, ``/balloon/statistics``, ``/balloon/hinting/status``"""
    controller = call.controller
    second = call.token(1)
    if second is None:
        return controller.balloon_config().to_json()
    if second == "statistics":
        return controller.running.balloon_stats()
    if second != "hinting":
        raise call.unrecognized(second)
    third = call.token(2) or ""
    if third != "status":
        raise call.unrecognized(f"/hinting/{third}")
    return controller.running.hinting_status()


def memory_hotplug(call: Call) -> Any:
    """``/hotplug/memory``"""
    if call.token(1) != "memory":
        raise call.no_such_path()
    call.count("hotplug_memory")
    return call.controller.running.memory_hotplug_status()


GETS: dict[str, Callable[[Call], Any]] = {
    "": instance_info,
    "balloon": balloon,
    "branch": branches,
    "hotplug": memory_hotplug,
    "machine-config": machine_config,
    "mmds": mmds,
    "version": version,
    "vm": vm_config,
}
