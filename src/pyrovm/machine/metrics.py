"""The metrics: one JSON object per line: soon after the start, every 60 s, on demand, at the end.

Two kinds of numbers meet here.  Those of the process itself (API calls, latencies, signals) are
counted by :meth:`Metrics.add` and :meth:`Metrics.store`; those of devices and vCPUs are read from
their counters when a line is made.  Writing never blocks: what does not fit is lost and counted.
"""

from __future__ import annotations

import os
from time import time_ns

from pyrovm.errors import ConfigError, os_error
from pyrovm.machine.log import open_output
from pyrovm.machine.metrics_table import GROUPS, PER_DEVICE, STORED, WITHOUT_SUM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from pyrovm.config.metrics import MetricsConfig
    from pyrovm.machine.log import Log
    from pyrovm.machine.loop import EventLoop

    Sources = Callable[[], Iterable[tuple[str, str | None, object]]]

PERIOD = 60.0  # seconds
FIRST = 0.2  # seconds: a line takes milliseconds to make, and a guest that starts needs the CPU
NS_PER_US = 1000


def _no_sources() -> Iterable[tuple[str, str | None, object]]:
    return ()


class Metrics:
    """Collects and writes.  ``sources`` is set to the machine's counters while there is one."""

    def __init__(self, log: Log, instance_id: str = "") -> None:
        self._log = log
        self._instance_id = instance_id
        self._own = {group: dict.fromkeys(fields, 0) for group, fields in GROUPS.items()}
        self._last: dict[tuple[str, str], int] = {}
        self._config: MetricsConfig | None = None
        self._fd = -1
        self._rest = b""  # of a line of which a FIFO took only a part
        self.sources: Sources = _no_sources

    # ---------------------------------------------------------------- counting

    def add(self, group: str, field: str, count: int = 1) -> None:
        """Count up.

        Raises:
            KeyError: there is no such field.
        """
        self._own[group][field] += count

    def store(self, group: str, field: str, value: int) -> None:
        """Set a value.

        Raises:
            KeyError: there is no such field.
        """
        fields = self._own[group]
        fields[field]  # must be there
        fields[field] = value

    # ----------------------------------------------------------------- writing

    def configure(self, config: MetricsConfig) -> None:
        """Open the sink, once in a process.

        Raises:
            ConfigError: it is open already, or cannot be opened.
        """
        problem = "Cannot initialize the metrics system due to bad user input: "
        if self._config is not None:
            raise ConfigError(f"{problem}Reinitialization of metrics not allowed.")
        try:
            self._fd = open_output(config.metrics_path)
        except OSError as error:
            raise ConfigError(f"{problem}{os_error(error)}") from None
        self._config = config

    def write(self) -> bool:
        """Write a line; False if there is no sink."""
        if self._config is None:
            return False
        from pyrovm.config.serde.writer import dumps

        line = (dumps(self.collect()) + "\n").encode("utf-8", "surrogateescape")
        if not self._send(line):
            self.add("logger", "missed_metrics_count")
        return True

    def _send(self, line: bytes) -> bool:
        """Finish the line before, then write this one; False if there was no room for it."""
        self._rest = self._rest[self._try(self._rest) :]
        if self._rest:
            return False
        written = self._try(line)
        if written:
            self._rest = line[written:]
        return written > 0

    def _try(self, data: bytes) -> int:
        try:
            return os.write(self._fd, data) if data else 0
        except BlockingIOError:
            return 0
        except OSError:
            self.add("logger", "metrics_fails")
            return 0

    def close(self) -> None:
        """Close the sink."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._config = None

    # -------------------------------------------------------------- collecting

    def collect(self) -> dict[str, Any]:
        """The object of one line; what grows is counted from here on anew."""
        self._own["logger"]["missed_log_count"] = self._log.missed
        self._own["logger"]["rate_limited_log_count"] = self._log.rate_limited
        config = self._config
        line: dict[str, Any] = {"utc_timestamp_ms": time_ns() // 1_000_000}
        if config is not None and config.emit_id:
            line["id"] = self._instance_id
        if config is not None and config.properties is not None:
            line["properties"] = config.properties
        sources: dict[str, list[tuple[str | None, object]]] = {}
        for group, device_id, source in self.sources():
            sources.setdefault(group, []).append((device_id, source))
        for group in GROUPS:
            found = sources.pop(group, [])
            if group in PER_DEVICE:
                each = [
                    (device_id, self._read(group, f"{group}_{device_id}", source))
                    for device_id, source in found
                ]
                if group not in WITHOUT_SUM:
                    line[group] = _total(group, [values for _, values in each])
                line.update({f"{group}_{device_id}": values for device_id, values in each})
            elif found:
                each_of = enumerate(source for _, source in found)
                parts = [self._read(group, f"{group} {i}", source) for i, source in each_of]
                line[group] = _total(group, parts)
            else:
                line[group] = self._read(group, group, None)
        if sources:
            raise KeyError(f"no such groups of metrics: {sorted(sources)}")
        return line

    def _read(self, group: str, key: str, source: object) -> dict[str, Any]:
        """The fields of a group, from ``source`` or from our own numbers."""
        values: dict[str, Any] = {}
        own = self._own[group]
        for field in GROUPS[group]:
            if field.endswith("_agg"):
                latency = None if source is None else getattr(source, field)
                values[field] = self._latency(key, field, latency)
                continue
            value = own[field] if source is None else getattr(source, field)
            is_stored = (group, field) in STORED
            values[field] = value if is_stored else self._growth(key, field, value)
        return values

    def _latency(self, key: str, field: str, latency: Any) -> dict[str, int]:
        if latency is None:
            return {"min_us": 0, "max_us": 0, "sum_us": 0}
        return {
            "min_us": latency.min // NS_PER_US,
            "max_us": latency.max // NS_PER_US,
            "sum_us": self._growth(key, field, latency.sum // NS_PER_US),
        }

    def _growth(self, key: str, field: str, value: int) -> int:
        place = (key, field)
        growth = value - self._last.get(place, 0)
        self._last[place] = value
        return growth


def _total(group: str, each: list[dict[str, Any]]) -> dict[str, Any]:
    """The sum over all devices of a group: of latencies the shortest, the longest, the sum."""
    total: dict[str, Any] = {}
    for field in GROUPS[group]:
        values = [device[field] for device in each]
        if not field.endswith("_agg"):
            total[field] = sum(values)
            continue
        used = [value for value in values if value["max_us"] or value["sum_us"]]
        total[field] = {
            "min_us": min((value["min_us"] for value in used), default=0),
            "max_us": max((value["max_us"] for value in used), default=0),
            "sum_us": sum(value["sum_us"] for value in used),
        }
    return total


class PeriodicMetrics:
    """Writes a line soon after the start and every 60 s; stands still while the machine does."""

    def __init__(self, metrics: Metrics, loop: EventLoop) -> None:
        self._metrics = metrics
        self._timer = loop.timer(self._fire)
        self._wait = FIRST

    def start(self) -> None:
        """Write as soon as the guest is on its way, then in every period."""
        self._timer.arm(self._wait)

    def _fire(self) -> None:
        self._metrics.write()
        self._wait = PERIOD
        self._timer.arm(PERIOD)

    def suspend(self) -> None:
        """Do not write by ourselves."""
        self._timer.disarm()

    def resume(self) -> None:
        """Go on; the next line is a whole period away, if there has been one."""
        self._timer.arm(self._wait)
