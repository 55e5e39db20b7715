"""pyrovm: microVMs in Python on Linux KVM.

>>> import pyrovm
>>> with pyrovm.MicroVM("vmlinux", initrd="initrd.cpio", memory="256M") as vm:  # doctest: +SKIP
...     vm.start()
...     vm.console.wait_for("login:")

>>> pyrovm.run(["python3", "-c", "print(6 * 7)"], capture_output=True).stdout  # doctest: +SKIP
b'42\\n'

The names of :mod:`pyrovm.sdk` and :mod:`pyrovm.programs` are available here; they are loaded on
first use, so that the VMM process, which imports this package too, does not pay for them.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.programs.branches import Branch
    from pyrovm.programs.errors import FunctionError, FunctionTimeout
    from pyrovm.programs.function import function
    from pyrovm.programs.live import Running, start
    from pyrovm.programs.running import CompletedProgram, arun, run
    from pyrovm.programs.template import Template, TemplateError
    from pyrovm.programs.template_async import AsyncTemplate
    from pyrovm.sdk import (
        ApiError,
        AsyncMicroVM,
        Balloon,
        Clone,
        Drive,
        MemoryHotplug,
        MicroVM,
        MicroVMError,
        Network,
        Pmem,
        Snapshot,
        VmmExited,
        Vsock,
        WaitTimeout,
    )

__all__ = [
    "ApiError",
    "AsyncMicroVM",
    "AsyncTemplate",
    "Balloon",
    "Branch",
    "Clone",
    "CompletedProgram",
    "Drive",
    "FunctionError",
    "FunctionTimeout",
    "MemoryHotplug",
    "MicroVM",
    "MicroVMError",
    "Network",
    "Pmem",
    "Running",
    "Snapshot",
    "Template",
    "TemplateError",
    "VmmExited",
    "Vsock",
    "WaitTimeout",
    "__version__",
    "arun",
    "function",
    "run",
    "start",
]
_PROGRAMS = {
    "AsyncTemplate": "template_async",
    "Branch": "branches",
    "CompletedProgram": "running",
    "FunctionError": "errors",
    "FunctionTimeout": "errors",
    "Running": "live",
    "Template": "template",
    "TemplateError": "template",
    "arun": "running",
    "function": "function",
    "run": "running",
    "start": "live",
}


def __getattr__(name: str) -> object:
    if name in _PROGRAMS:
        from importlib import import_module

        return getattr(import_module(f"pyrovm.programs.{_PROGRAMS[name]}"), name)
    if name in __all__:
        from pyrovm import sdk

        return getattr(sdk, name)
    raise AttributeError(f"module 'pyrovm' has no attribute {name!r}")
