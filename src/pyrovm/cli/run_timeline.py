"""When what happened on the way to a running guest, and why it left the processor."""

from __future__ import annotations

from time import monotonic_ns, process_time_ns

from pyrovm.abi import kvm as abi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from pyrovm.machine.machine import Machine

PROCESS, API, LOADED = "process start", "API ready", "kernel loaded"
RUNNING, INIT, STOPPED = "first guest instruction", "init reached", "stopped"
MOMENTS = (PROCESS, API, LOADED, RUNNING, INIT, STOPPED)
FROM_MACHINE = {
    "kernel loaded": LOADED,
    "first guest instruction": RUNNING,
    "init": INIT,
    "stopped": STOPPED,
}


class Timeline:
    """Collects moments of the monotonic clock, in ns."""

    def __init__(self) -> None:
        # The kernel knows a process's start in ticks of 10 ms only; but until here it has done
        # nothing but compute, so its CPU time is the time it has been there.
        self.moments = {PROCESS: monotonic_ns() - process_time_ns()}

    def mark(self, moment: str) -> None:
        """Note the time of the first occurrence of ``moment``."""
        self.moments.setdefault(moment, monotonic_ns())

    def take(self, machine: Machine) -> None:
        """Add what a machine has noted."""
        for name, moment in FROM_MACHINE.items():
            if name in machine.timeline:
                self.moments.setdefault(moment, machine.timeline[name])

    def milliseconds(self) -> dict[str, float]:
        """Moment -> ms since the process started, in the order in which they are listed."""
        start = self.moments[PROCESS]
        return {m: (self.moments[m] - start) / 1e6 for m in MOMENTS if m in self.moments}


def exit_names() -> dict[int, str]:
    """KVM's exit reasons by number, in lower case and without KVM_EXIT_."""
    return {
        getattr(abi, name): name.removeprefix("KVM_EXIT_").lower()
        for name in dir(abi)
        if name.startswith("KVM_EXIT_") and "_" not in name.removeprefix("KVM_EXIT_")
    } | {abi.KVM_EXIT_SYSTEM_EVENT: "system_event", abi.KVM_EXIT_INTERNAL_ERROR: "internal_error"}


def exit_counts(machine: Machine) -> dict[str, int]:
    """How often the guest was left for user space, by reason; device accesses by direction."""
    names = exit_names()
    counts: dict[str, int] = {}
    for thread in machine.threads:
        for name, latency in (
            ("io in", thread.io_in),
            ("io out", thread.io_out),
            ("mmio read", thread.mmio_read),
            ("mmio write", thread.mmio_write),
        ):
            if latency.count:
                counts[name] = counts.get(name, 0) + latency.count
    for reason, count in machine.exits().items():
        if reason not in (abi.KVM_EXIT_IO, abi.KVM_EXIT_MMIO):
            counts[names.get(reason, str(reason))] = count
    return counts


def print_table(timeline: Timeline, exits: dict[str, int], out: TextIO) -> None:
    """The timeline with a bar for each step, then the exits."""
    moments = timeline.milliseconds()
    last = max(moments.values(), default=0.0) or 1.0
    width, before = 30, 0.0
    print("\nboot timeline            at ms    +ms", file=out)
    for name, at in moments.items():
        start, end = round(before / last * width), round(at / last * width)
        bar = " " * start + "#" * max(1 if at > before else 0, end - start)
        print(f"  {name:22} {at:7.1f} {at - before:6.1f}  {bar}", file=out)
        before = at
    total = sum(exits.values())
    reasons = ", ".join(f"{name} {n}" for name, n in sorted(exits.items(), key=lambda x: -x[1]))
    print(f"exits to user space: {total} ({reasons or 'none'})", file=out)


def to_json(timeline: Timeline, exits: dict[str, int]) -> dict[str, object]:
    """The same for programs: times in ms since the process started."""
    return {
        "timeline_ms": {name: round(at, 3) for name, at in timeline.milliseconds().items()},
        "exits": exits,
    }
