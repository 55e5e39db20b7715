"""Save a Linux guest under each VMM, and restore it in new processes; how long that took.

    restore.py PLAN    {"args": ..., "sizes_mib": {PROGRAM: [...]}, "rounds": ...}

PROGRAM is that of a peer, or "pyrovm".  From the word that loads the guest, of a VMM that stands
ready and idle: to the first entry into the guest, and to the guest's next hypercall.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from pyrovm.bench.inside.machines import (
    TIMEOUT,
    Guest,
    Machine,
    Pyrovm,
    Qemu,
    answer,
    patiently,
    say,
    take_assets,
)
from pyrovm.bench.inside.others import Firecracker, chosen
from pyrovm.bench.inside.tracing import Tracing


class ByApi(Pyrovm):
    """Snapshots by Firecracker's API: state in one file, memory in another."""

    def save(self, folder: Path) -> None:
        """Write the running guest to ``folder``."""
        self.heed()
        self.ask("PATCH", "/vm", {"state": "Paused"})
        files = {"snapshot_path": f"{folder}/state", "mem_file_path": f"{folder}/memory"}
        self.ask("PUT", "/snapshot/create", {"snapshot_type": "Full", **files})

    def make_ready_to_load(self, folder: Path) -> None:
        """Everything before the word."""
        self._folder = folder
        self._connection = self.connect()
        self.settle()

    def load(self) -> int:
        """Load it and let it run; when that began, in ns."""
        memory = {"backend_type": "File", "backend_path": f"{self._folder}/memory"}
        body = {"snapshot_path": f"{self._folder}/state", "mem_backend": memory, "resume_vm": True}
        return self.ask("PUT", "/snapshot/load", body)[0]

    def heed(self) -> None:
        """Read the answer to the word that began it."""
        self._connection.recv(4096)

    def ask(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """When the request was sent, in ns, and the JSON of its answer, if it has any."""
        began = self.send(self._connection, method, path, json.dumps(body).encode())
        head, _, said = self._connection.recv(65536).partition(b"\r\n\r\n")
        if b" 204 " not in head and b" 200 " not in head:
            raise self.failure(f"{method} {path} was refused: {said!r}")
        return began, json.loads(said) if said else {}


class FirecrackerByApi(ByApi, Firecracker):
    """The original's snapshots."""


class ByMigration(Qemu):
    """Snapshots as QEMU has them: a migration to a file, and from it."""

    incoming = False

    def command(self, waits: bool) -> list[str]:
        words = super().command(waits)
        if not self.incoming:
            return words
        words.remove("-S")  # it runs as soon as it has arrived
        return [*words, "-incoming", "defer"]

    def save(self, folder: Path) -> None:
        """Write the running guest to ``folder``; one that is paused would arrive paused."""
        self._tell("migrate-set-parameters", {"max-bandwidth": 1 << 40})
        self._tell("migrate", {"uri": f"exec:cat > {folder}/migration"})
        deadline = time.monotonic() + TIMEOUT
        while (status := self._tell("query-migrate").get("status")) != "completed":
            if status == "failed" or time.monotonic() > deadline:
                raise self.failure(f"the migration to a file is {status}")
            time.sleep(0.1)

    def make_ready_to_load(self, folder: Path) -> None:
        """Everything before the word."""
        self._folder = folder
        self.make_ready()

    def load(self) -> int:
        """Load it and let it run; when that began, in ns."""
        began = time.monotonic_ns()
        self._tell("migrate-incoming", {"uri": f"exec:cat {self._folder}/migration"})
        return began

    def _tell(self, command: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        """Its answer; what it says meanwhile of its own accord is passed over."""
        order = {"execute": command, "arguments": arguments or {}}
        self._connection.sendall(json.dumps(order).encode() + b"\n")
        while True:
            said = json.loads(self._answers.readline())
            if "error" in said:
                raise self.failure(f"{command}: {said['error']['desc']}")
            if "return" in said:
                found: dict[str, Any] = said["return"]
                return found


class Incoming(ByMigration):
    """The one that is restored."""

    incoming = True


# Who saves, and who loads.
KINDS: dict[str, tuple[type[Machine], type[Machine]]] = {
    "pyrovm": (ByApi, ByApi),
    "qemu-system-x86_64": (ByMigration, Incoming),
    "firecracker": (FirecrackerByApi, FirecrackerByApi),
}


def save(kind: Any, guest: Guest, folder: Path, tracing: Tracing) -> None:
    """Boot the guest to its init and save it."""
    tracing.take()
    with kind(guest, Path(tempfile.mkdtemp()), waits=True) as machine:
        machine.make_ready()
        machine.begin()
        tracing.wait_for_init(TIMEOUT)
        machine.save(folder)


def restore(kind: Any, guest: Guest, folder: Path, tracing: Tracing) -> dict[str, float]:
    """Restore it once; ms."""
    with kind(guest, Path(tempfile.mkdtemp()), waits=True) as machine:
        machine.make_ready_to_load(folder)
        tracing.take()
        began = machine.load()
        here = tracing.wait_for_init(TIMEOUT)
        entry = next(event.ns for event in tracing.peek() if event.name == "kvm_entry")
        return {"entry": (entry - began) / 1e6, "hypercall": (here - began) / 1e6}


def main() -> None:
    plan = json.loads(sys.argv[1])
    kernel, initrd = take_assets("kernel", "initrd")
    chosen([program for program in plan["sizes_mib"] if program != "pyrovm"])
    tracing = Tracing({"kvm_entry": ""})
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    failed: dict[str, str] = {}
    for program, sizes in plan["sizes_mib"].items():
        saves, loads = KINDS[program]
        for mib in sizes:
            guest = Guest(kernel, initrd, plan["args"], memory_mib=mib)
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                try:
                    say(f"{saves.name}, {mib} MiB: saved")
                    patiently(partial(save, saves, guest, folder, tracing))
                    for number in range(plan["rounds"] + 1):  # the first fills caches
                        say(f"{saves.name}, {mib} MiB: restored, {number} of {plan['rounds']}")
                        took = patiently(partial(restore, loads, guest, folder, tracing))
                        for what, ms in took.items():
                            times = found.setdefault(program, {}).setdefault(str(mib), {})
                            times.setdefault(what, []).append(ms)
                except (RuntimeError, OSError, TimeoutError) as error:
                    if program == "pyrovm":
                        raise
                    failed[saves.name] = str(error)
                    break
    answer({"found": found, "failed": failed})


if __name__ == "__main__":
    main()
