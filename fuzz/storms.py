"""Hostile programs in real VMs: arbitrary hypercalls, memory, page tables, instructions.

    python fuzz/storms.py [--inputs N] [--kind KIND] [--seed N] [--cpus N]

Each VM runs ``tests/guests/hostile/storm.c`` with a seed of its own until it has done its share or
has ruined itself, and the next one follows.  A VM may end in any way that pyrovm names; what counts
as a finding is a traceback, a report that never comes, a change of the folder beside the one that
the VM was given, or a descriptor that the helper process keeps.  Exits 1 if there was one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":  # started as a script: the packages are found from the root
    sys.path[:1] = [str(ROOT), str(ROOT / "src")]

from pyrovm.errors import PyrovmError  # noqa: E402
from pyrovm.programs.execution import Execution  # noqa: E402
from pyrovm.programs.helper import HELPERS  # noqa: E402
from pyrovm.programs.plan import find_image, request  # noqa: E402

SOURCE = ROOT / "tests" / "guests" / "hostile" / "storm.c"
# How many inputs one VM is to try, and how long it may take: most are ruined before.
KINDS = {
    "calls": (2000, 2.0),
    "places": (200, 1.0),
    "memory": (1000, 1.0),
    "tables": (1000, 1.0),
    "instructions": (200, 0.5),
    "races": (2000, 2.0),
}
GRACE = 30.0  # seconds that a report may be late on a busy machine
OUTPUT_MAX = 64 << 20
SECRET = b"this is not the guest's"


class Storm:
    """A compiled storm, a folder for it, and what has come of its VMs."""

    def __init__(self, folder: Path, *, cpus: int = 1) -> None:
        program = folder / "storm"
        subprocess.run(
            ["gcc", "-O1", "-w", "-static", "-pthread", "-o", str(program), str(SOURCE)],
            check=True,
            timeout=120,
        )
        self.image = find_image(str(program))
        self.top = folder / "host"
        (self.top / "inside").mkdir(parents=True)
        (self.top / "secret").write_bytes(SECRET)
        (self.top / "inside" / "out").symlink_to("..")
        self.cpus = cpus
        self.tried: Counter[str] = Counter()  # inputs by kind, at least
        self.endings: Counter[str] = Counter()
        self.findings: list[str] = []

    def run(self, kind: str, seed: int) -> None:
        """One VM."""
        count, seconds = KINDS[kind]
        record = request(
            self.image,
            [kind, str(seed), str(count)],
            memory=32,
            cpus=self.cpus,
            volumes=[f"{self.top / 'inside'}:/in", f"{self.top / 'inside'}:/ro:ro"],
        )
        execution = Execution(record, subprocess.DEVNULL, subprocess.PIPE, subprocess.PIPE)
        began = time.monotonic()
        try:
            ended = f"status {execution.run(timeout=seconds, limit=OUTPUT_MAX).returncode}"
        except TimeoutError:
            ended = "spins"
        except PyrovmError as error:
            ended = str(error)
        said = execution.stdout or b""
        self.tried[kind] += max(_last_number(said), 1)
        late = time.monotonic() - began - seconds
        if "Traceback" in ended or "without a report" in ended or late > GRACE:
            self.findings.append(f"storm {kind} {seed} {count}: {ended} ({late:.1f} s late)")
        self.endings[_class_of(ended)] += 1

    def check_host(self) -> None:
        """Nothing beside the folder has changed."""
        names = sorted(os.listdir(self.top))
        if names != ["inside", "secret"] or (self.top / "secret").read_bytes() != SECRET:
            self.findings.append(f"the host's folder has {names}")
        for name in os.listdir(self.top / "inside"):
            if name != "out":  # what the guest has made there is its own
                shutil.rmtree(self.top / "inside" / name, ignore_errors=True)


def _last_number(said: bytes) -> int:
    numbers = [line for line in said.splitlines() if line.isdigit() and len(line) < 10]
    return int(numbers[-1]) if numbers else 0


def _class_of(ended: str) -> str:
    """A message without its numbers."""
    words = (word for word in ended.split() if not any(c.isdigit() for c in word))
    return ended if ended.startswith("status") else " ".join(words)[:70]


def storm(inputs: int, seed: int, kinds: tuple[str, ...] = tuple(KINDS), *, cpus: int = 1) -> Storm:
    """Run VMs, as many at once as there are CPUs, until ``inputs`` have been tried in all."""
    folder = Path(tempfile.mkdtemp(prefix="pyrovm-storm-"))
    try:
        state = Storm(folder, cpus=cpus)
        state.run(kinds[0], seed)  # starts the helper
        helper = HELPERS.pid
        before = _descriptors(helper)
        workers = os.cpu_count() or 1
        with ThreadPoolExecutor(workers) as pool:
            while state.tried.total() < inputs and not state.findings:
                batch = [(kind, seed + n) for n in range(workers * 4) for kind in kinds]
                seed += workers * 4
                list(pool.map(lambda job: state.run(*job), batch))
                state.check_host()
        if HELPERS.pid != helper:
            state.findings.append("the helper process has ended")
        elif _descriptors(helper) > before:
            state.findings.append(f"the helper keeps {_descriptors(helper) - before} descriptors")
        return state
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _descriptors(pid: int | None) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cpus", type=int, default=1, help="of each VM")
    options = parser.parse_args()
    kinds = (options.kind,) if options.kind else tuple(KINDS)
    state = storm(options.inputs, options.seed, kinds, cpus=options.cpus)
    for kind, tried in state.tried.most_common():
        print(f"{kind:14} {tried:>10} inputs")
    for ending, times in state.endings.most_common():
        print(f"{times:>8} VMs: {ending}")
    for finding in state.findings:
        print(f"finding: {finding}")
    print(
        f"{state.tried.total()} inputs, {state.endings.total()} VMs, {len(state.findings)} findings"
    )
    return int(bool(state.findings))


if __name__ == "__main__":
    sys.exit(main())
