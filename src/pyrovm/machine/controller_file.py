"""A machine configured from one JSON document instead of API calls."""

from __future__ import annotations

from pyrovm.config.serde.schema import parse
from pyrovm.config.vm_file import VM_FILE
from pyrovm.errors import ConfigError, os_error
from pyrovm.machine.controller_fault import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrovm.config.cpu_template import CpuTemplate
    from pyrovm.machine.controller import Controller


def configure_from_file(controller: Controller, document: bytes, metadata: Any = None) -> None:
    """Apply ``document`` (the text of the file), and ``metadata`` if it is not None.

    Raises:
        ConfigError: the text is no such document, or what it says cannot be.
    """
    try:
        vm = parse(VM_FILE, document)
    except ConfigError as error:
        raise ConfigError(f"Invalid JSON: {error}") from None
    try:
        if vm.logger is not None:
            controller.set_logger(vm.logger)
        if vm.metrics is not None:
            controller.set_metrics(vm.metrics)
        if vm.machine_config is not None:
            controller.update_machine_config(vm.machine_config)
        if vm.cpu_config is not None:
            controller.set_cpu_template(_template(vm.cpu_config))
        controller.set_boot_source(vm.boot_source)
        for drive in vm.drives:
            controller.put_drive(drive)
        for network in vm.network_interfaces:
            controller.put_network(network)
        if vm.vsock is not None:
            controller.set_vsock(vm.vsock)
        if vm.balloon is not None:
            controller.set_balloon(vm.balloon)
        if metadata is not None:
            controller.put_mmds(metadata)
        if vm.mmds_config is not None:
            controller.set_mmds_config(vm.mmds_config)
        if vm.entropy is not None:
            controller.set_entropy(vm.entropy)
        for pmem in vm.pmem:
            controller.put_pmem(pmem)
        if vm.memory_hotplug is not None:
            controller.set_memory_hotplug(vm.memory_hotplug)
    except Fault as fault:
        raise ConfigError(str(fault)) from None


def _template(config: CpuTemplate | str) -> CpuTemplate:
    """A template, read from its own file if the document names one."""
    if not isinstance(config, str):
        return config
    from pyrovm.config.cpu_template import CPU_TEMPLATE

    try:
        with open(config, "rb") as file:
            return parse(CPU_TEMPLATE, file.read())
    except OSError as error:
        raise ConfigError(f"Unable to read the CPU template {config}: {os_error(error)}") from None
    except ConfigError as error:
        raise ConfigError(f"Invalid CPU template {config}: {error}") from None
