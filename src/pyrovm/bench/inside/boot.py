"""Boot the same guest by turns under all VMMs; how long each took until init, and to its end.

    boot.py PLAN    {"serial": ..., "args": ..., "ways": [...], "rounds": ..., "warm": NAME,
                     "peers": [PROGRAM, ...]}

Ways: "request", from the word that starts the guest of a VMM that is ready; "process", from the
start of the VMM's process.  A peer that fails is left out, with the reason.
"""

from __future__ import annotations

import json
import sys
import tempfile
from functools import partial
from pathlib import Path

from pyrovm.bench.inside.machines import (
    TIMEOUT,
    Guest,
    Machine,
    Pyrovm,
    answer,
    patiently,
    say,
    take_assets,
)
from pyrovm.bench.inside.others import chosen
from pyrovm.bench.inside.tracing import Tracing, init_reached


def boot(kind: type[Machine], guest: Guest, way: str, tracing: Tracing) -> dict[str, float]:
    """One boot: ms from the beginning to init, and to the end of the process."""
    folder = Path(tempfile.mkdtemp())
    waits = way == "request"
    tracing.take()
    with kind(guest, folder, waits=waits) as machine:
        begin = machine.started_ns
        if waits:
            machine.make_ready()
            begin = machine.begin()
        if not machine.ends:
            return {"init": (tracing.wait_for_init(TIMEOUT) - begin) / 1e6}
        end = machine.wait()
        init = _init_of(machine, tracing)
    return {"init": (init - begin) / 1e6, "end": (end - begin) / 1e6}


def _init_of(machine: Machine, tracing: Tracing) -> int:
    try:
        return init_reached(tracing.take())
    except LookupError as error:
        raise machine.failure(str(error)) from None


def main() -> None:
    plan = json.loads(sys.argv[1])
    kernel, bzimage, warm, initrd = take_assets("kernel", "bzimage", plan["warm"], "initrd")
    guest = Guest(kernel, initrd, plan["args"], serial=plan["serial"], bzimage=bzimage)
    first = Guest(warm, initrd, plan["args"], serial=plan["serial"], bzimage=bzimage)
    kinds = chosen(plan["peers"])
    tracing = Tracing()
    found: dict[str, list[float]] = {}
    failed: dict[str, str] = {}
    for number in range(plan["rounds"] + 1):
        say(f"round {number} of {plan['rounds']}" if number else "warming up")
        for way in plan["ways"]:
            for kind in kinds:
                if kind.name in failed or (way == "request" and not kind.can_wait):
                    continue
                each = guest if number else first
                try:
                    took = patiently(partial(boot, kind, each, way, tracing))
                except (RuntimeError, OSError) as error:
                    if kind is Pyrovm:
                        raise
                    failed[kind.name] = str(error)
                    continue
                if number:
                    for what, ms in took.items():
                        found.setdefault(f"{kind.name} {way} {what}", []).append(ms)
    answer({"took": found, "failed": failed})


if __name__ == "__main__":
    main()
