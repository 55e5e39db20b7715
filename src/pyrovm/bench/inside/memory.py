"""Memory that each VMM takes while a guest idles, the guest's own memory not counted.

memory.py PLAN    {"args": ..., "memory_mib": ..., "peers": [PROGRAM, ...]}
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from pyrovm.bench.inside.machines import TIMEOUT, Guest, Machine, Pyrovm, answer, say, take_assets
from pyrovm.bench.inside.others import chosen
from pyrovm.bench.inside.tracing import Tracing
from pyrovm.bench.smaps import outside_guest, read_smaps


def observe(kind: type[Machine], guest: Guest, tracing: Tracing) -> dict[str, int]:
    """KiB, private and proportional, with the guest's init asleep."""
    tracing.take()
    with kind(guest, Path(tempfile.mkdtemp()), waits=True) as machine:
        machine.make_ready()
        machine.begin()
        tracing.wait_for_init(TIMEOUT)
        machine.settle()
        mappings = outside_guest(read_smaps(machine.process.pid), guest.memory_mib << 10)
        return {
            "private": sum(mapping.private_kib for mapping in mappings),
            "proportional": sum(mapping.pss_kib for mapping in mappings),
        }


def main() -> None:
    plan = json.loads(sys.argv[1])
    kernel, initrd = take_assets("kernel", "initrd")
    guest = Guest(kernel, initrd, plan["args"], memory_mib=plan["memory_mib"], serial=True)
    tracing = Tracing()
    found: dict[str, list[int]] = {}
    failed: dict[str, str] = {}
    kinds = [kind for kind in chosen(plan["peers"]) if kind.can_wait]
    for number in range(plan["rounds"]):
        say(f"round {number + 1} of {plan['rounds']}")
        for kind in kinds:
            if kind.name in failed:
                continue
            try:
                seen = observe(kind, guest, tracing)
            except (RuntimeError, OSError, LookupError) as error:
                if kind is Pyrovm:
                    raise
                failed[kind.name] = str(error)
                continue
            for what, kib in seen.items():
                found.setdefault(f"{kind.name} {what}", []).append(kib)
    answer({"found": found, "failed": failed})


if __name__ == "__main__":
    main()
