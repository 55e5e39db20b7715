"""The SDK: microVMs from Python, over the API socket of a VMM process, ours or Firecracker's."""

from __future__ import annotations

from pyrovm.sdk.aio import AsyncMicroVM
from pyrovm.sdk.clones import Clone
from pyrovm.sdk.errors import ApiError, MicroVMError, VmmExited, WaitTimeout
from pyrovm.sdk.microvm import MicroVM
from pyrovm.sdk.snapshots import Snapshot
from pyrovm.sdk.spec import Balloon, Drive, MemoryHotplug, Network, Pmem, Spec, Vsock

__all__ = [
    "ApiError",
    "AsyncMicroVM",
    "Balloon",
    "Clone",
    "Drive",
    "MemoryHotplug",
    "MicroVM",
    "MicroVMError",
    "Network",
    "Pmem",
    "Snapshot",
    "Spec",
    "VmmExited",
    "Vsock",
    "WaitTimeout",
]
