"""Clone a running Linux guest again and again: how long it stood still, when each clone ran.

branch.py PLAN    {"args": ..., "memory_mib": ..., "rounds": ...}
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from pyrovm.bench.inside.machines import TIMEOUT, Guest, answer, say, take_assets
from pyrovm.bench.inside.restore import ByApi
from pyrovm.bench.inside.tracing import Tracing


def clone(machine: ByApi, folder: Path, tracing: Tracing) -> dict[str, float]:
    """One clone; counted ms of its source's pause, and from the request to its first entry."""
    tracing.take()
    clones = [{"api_sock": f"{folder}/socket", "id": "clone"}]
    began, told = machine.ask("PUT", "/branch", {"clones": clones})
    pid = told["clones"][0]["pid"]
    deadline = time.monotonic() + TIMEOUT
    try:
        while time.monotonic() < deadline:
            tasks = {int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()}
            for event in tracing.peek():
                if event.name == "kvm_entry" and event.task in tasks:
                    running = (event.ns - began) / 1e6
                    return {"pause": told["pause_us"] / 1e3, "running": running}
            time.sleep(0.05)
    finally:
        os.kill(pid, signal.SIGKILL)
    raise machine.failure("its clone does not run")


def main() -> None:
    plan = json.loads(sys.argv[1])
    kernel, initrd = take_assets("kernel", "initrd")
    guest = Guest(kernel, initrd, plan["args"], memory_mib=plan["memory_mib"])
    tracing = Tracing({"kvm_entry": ""})
    found: dict[str, list[float]] = {}
    with ByApi(guest, Path(tempfile.mkdtemp()), waits=True) as machine:
        machine.make_ready()
        machine.begin()
        tracing.wait_for_init(TIMEOUT)
        machine.heed()
        for number in range(plan["rounds"] + 1):
            say(f"clone {number} of {plan['rounds']}")
            took = clone(machine, Path(tempfile.mkdtemp()), tracing)
            if number:  # the first one imports what it needs
                for what, ms in took.items():
                    found.setdefault(what, []).append(ms)
    answer(found)


if __name__ == "__main__":
    main()
