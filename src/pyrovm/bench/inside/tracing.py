"""The lab kernel's own account of what its KVM does: events of tracefs (Documentation/trace).

Both VMMs are seen from below, by the same eye, and neither has to help: a guest says "here" with a
hypercall that KVM refuses and notes (the moment is the kernel's CLOCK_MONOTONIC, which is Python's
``time.monotonic_ns`` too).
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

TRACEFS = Path("/sys/kernel/tracing")
HERE = 0x70797276  # the number of a hypercall that does not exist: "pyrv"

_EVENT = re.compile(
    r"-(?P<task>\d+) +\[.*?(?P<seconds>\d+)\.(?P<us>\d{6}): (?P<name>\w+): (?P<text>.*)$"
)
_BUFFER_KIB = 32 << 10


class Event:
    """One event: ``ns`` of the monotonic clock (to 1 us), its name, text and task (thread)."""

    __slots__ = ("name", "ns", "task", "text")

    def __init__(self, ns: int, name: str, text: str, task: int = 0) -> None:
        self.ns = ns
        self.name = name
        self.text = text
        self.task = task


def parse_event(line: str) -> Event | None:
    """One line of the file ``trace``; None for those that are no event."""
    found = _EVENT.search(line)
    if found is None:
        return None
    ns = int(found["seconds"]) * 1_000_000_000 + int(found["us"]) * 1000
    return Event(ns, found["name"], found["text"], int(found["task"]))


class Tracing:
    """Traces KVM's events; ``events`` maps their names to filters ("" for none)."""

    def __init__(self, events: Mapping[str, str] | None = None) -> None:
        if not (TRACEFS / "trace").exists():
            subprocess.run(["mount", "-t", "tracefs", "tracefs", str(TRACEFS)], check=True)
        self._write("trace_clock", "mono")
        self._write("buffer_size_kb", str(_BUFFER_KIB))
        wanted = {"kvm_hypercall": f"nr=={HERE:#x}", **(events or {})}
        for name, condition in wanted.items():
            if condition:
                self._write(f"events/kvm/{name}/filter", condition)
            self._write(f"events/kvm/{name}/enable", "1")
        self._write("trace", "")

    @staticmethod
    def _write(name: str, text: str) -> None:
        (TRACEFS / name).write_text(text)

    def peek(self) -> list[Event]:
        """What has happened since the last :meth:`take`."""
        with (TRACEFS / "trace").open() as lines:
            return [event for line in lines if (event := parse_event(line))]

    def take(self) -> list[Event]:
        """As :meth:`peek`, and begin anew."""
        events = self.peek()
        self._write("trace", "")
        return events

    def wait_for_init(self, timeout: float) -> int:
        """Wait until the guest's init has said that it is there; when that was, in ns.

        Raises:
            TimeoutError: it has not, in ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for event in self.peek():
                if event.name == "kvm_hypercall":
                    return event.ns
            time.sleep(0.05)
        raise TimeoutError(f"the guest's init did not come up in {timeout:g} s")


def init_reached(events: list[Event]) -> int:
    """When the guest's init began, in ns.

    Raises:
        LookupError: it never did.
    """
    for event in events:
        if event.name == "kvm_hypercall":
            return event.ns
    raise LookupError("the guest's init has not been reached")
