"""``/actions`` and ``/vm``: what the machine shall do."""

from __future__ import annotations

from pyrovm.config.record import Record
from pyrovm.config.serde.schema import enum, required, struct


class Action(Record):
    """FlushMetrics, InstanceStart or SendCtrlAltDel."""

    __slots__ = ("action_type",)

    def __init__(self, *, action_type: str) -> None:
        self.action_type = action_type


class VmUpdate(Record):
    """Paused or Resumed."""

    __slots__ = ("state",)

    def __init__(self, *, state: str) -> None:
        self.state = state


ACTION = struct(
    "ActionBody",
    (required("action_type", enum("FlushMetrics", "InstanceStart", "SendCtrlAltDel")),),
    Action,
)
VM_UPDATE = struct("Vm", (required("state", enum("Paused", "Resumed")),), VmUpdate)
