"""``/metrics``: where metrics go and what is added to each line."""

from __future__ import annotations

from pyrovm.config.record import Record
from pyrovm.config.serde.schema import boolean, mapping, optional, path, required, string, struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class MetricsConfig(Record):
    """``properties`` are the operator's own, printed on every line."""

    __slots__ = ("emit_id", "metrics_path", "properties")

    def __init__(
        self,
        *,
        metrics_path: str,
        emit_id: bool = False,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.metrics_path = metrics_path
        self.emit_id = emit_id
        self.properties = None if properties is None else dict(properties)


METRICS_CONFIG = struct(
    "MetricsConfig",
    (
        required("metrics_path", path),
        optional("emit_id", boolean, False),
        optional("properties", mapping(string)),
    ),
    MetricsConfig,
    ignore_unknown=True,
)
