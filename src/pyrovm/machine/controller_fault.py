"""The one way an action fails: a text for the client, and the status it travels under."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.errors import PyrovmError

NOT_BEFORE_START = "The requested operation is not supported before starting the microVM."
NOT_AFTER_START = "The requested operation is not supported after starting the microVM."
DEVICE_NOT_FOUND = "Failed perform action on device: Device not found"

BAD_REQUEST, PAYLOAD_TOO_LARGE = 400, 413


class Fault(Exception):
    """An action was refused; ``str()`` is the ``fault_message``."""

    def __init__(self, message: str, status: int = BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status


def prefixed(prefix: str, error: PyrovmError, suffix: str = "") -> Fault:
    """``error`` as a fault of a class of actions."""
    return Fault(f"{prefix}{error}{suffix}")
