"""What can go wrong for a user of the SDK::

MicroVMError
+-- ApiError        the VMM refused a request; .status and .fault say how and why
+-- VmmExited       the VMM ended when it should not have; .returncode, .log
+-- WaitTimeout     something did not happen in time; .seen is the console's end
"""

from __future__ import annotations


class MicroVMError(Exception):
    """Base of the SDK's own errors."""


class ApiError(MicroVMError):
    """The VMM answered with a fault."""

    def __init__(self, method: str, path: str, status: int, fault: str) -> None:
        super().__init__(f"{method} {path}: {fault} (HTTP {status})")
        self.method = method
        self.path = path
        self.status = status
        self.fault = fault


class VmmExited(MicroVMError):
    """The VMM process is gone; ``log`` is the end of what it had to say."""

    def __init__(self, message: str, returncode: int | None, log: str) -> None:
        super().__init__(f"{message}\n{log}".rstrip())
        self.returncode = returncode
        self.log = log


class WaitTimeout(MicroVMError, TimeoutError):
    """Waited in vain; ``seen`` is the end of the console's output."""

    def __init__(self, message: str, seen: str) -> None:
        super().__init__(f"{message}; the console ends with:\n{seen}")
        self.seen = seen
