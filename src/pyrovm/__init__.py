"""pyrovm: microVMs in Python on Linux KVM.

``pyrovm.MicroVM`` and ``pyrovm.AsyncMicroVM`` start and steer microVMs from a program; they are
loaded on first use, so that the VMM process itself does not pay for them.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.sdk import AsyncMicroVM, MicroVM, MicroVMError

__all__ = ["AsyncMicroVM", "MicroVM", "MicroVMError", "__version__"]


def __getattr__(name: str) -> object:
    if name in ("AsyncMicroVM", "MicroVM", "MicroVMError"):
        from pyrovm import sdk

        return getattr(sdk, name)
    raise AttributeError(f"module 'pyrovm' has no attribute {name!r}")
