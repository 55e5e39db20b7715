"""Boot the same guest under both VMMs and list the exits that each VMM had to handle itself.

exits.py PLAN    {"serial": ..., "args": ...}
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

from pyrovm.bench.inside.machines import MACHINES, Guest, Machine, Pyrovm, answer, say, take_assets
from pyrovm.bench.inside.tracing import Event, Tracing

# SVM's codes of the exits that may go on to user space with an access to say more about: I/O
# port, nested page fault (Linux, arch/x86/include/uapi/asm/svm.h).
EVENTS = {
    "kvm_userspace_exit": "",
    "kvm_pio": "",
    "kvm_mmio": "",
    "kvm_exit": "exit_reason==0x7b || exit_reason==0x400",
}

_PIO = re.compile(r"pio_(read|write) at (0x[0-9a-f]+)")
_MMIO = re.compile(r"(\S+) len \d+ gpa (0x[0-9a-f]+)")
_REASON = re.compile(r"reason (?:KVM_EXIT_)?(\w+)")


def count(events: list[Event]) -> Counter[tuple[str, str]]:
    """How often user space was entered up to init: (reason, what was accessed) to number.

    KVM notes a write before it leaves for user space, a port's read after it has come back.
    """
    found: Counter[tuple[str, str]] = Counter()
    access = ""  # noted since the last exit from the guest
    reading = False
    for event in events:
        if event.name == "kvm_hypercall":
            break
        if event.name == "kvm_exit":
            access = ""
        elif event.name == "kvm_pio" and (port := _PIO.search(event.text)):
            access = f"{port[1]} {port[2]}"
            if reading:
                found["IO", access] += 1
                reading = False
        elif event.name == "kvm_mmio" and (page := _MMIO.search(event.text)):
            access = f"{page[1].removeprefix('unsatisfied-')} {page[2]}"
        elif event.name == "kvm_userspace_exit" and (reason := _REASON.search(event.text)):
            if reason[1] == "IO" and not access:
                reading = True
            else:
                found[reason[1], access if reason[1] in ("IO", "MMIO") else ""] += 1
    return found


def observe(kind: type[Machine], guest: Guest, tracing: Tracing) -> dict[str, object]:
    """One boot: the exits, and where it is pyrovm what its own metrics say."""
    folder = Path(tempfile.mkdtemp())
    with kind(guest, folder, waits=True) as machine:
        machine.make_ready()
        tracing.take()
        machine.begin()
        machine.wait()
        rows = [[*key, number] for key, number in count(tracing.take()).most_common()]
        own = machine.metrics()["vcpu"] if isinstance(machine, Pyrovm) else None
    return {"exits": rows, "own": own}


def main() -> None:
    plan = json.loads(sys.argv[1])
    kernel, initrd = take_assets("kernel", "initrd")
    guest = Guest(kernel, initrd, plan["args"], serial=plan["serial"])
    tracing = Tracing(EVENTS)
    found = {}
    for kind in MACHINES:
        say(kind.name)
        found[kind.name] = observe(kind, guest, tracing)
    answer(found)


if __name__ == "__main__":
    main()
