"""One VM in a process of its own, all modules loaded: when it was where.

    python -m pyrovm.bench.once PROGRAM [ARGUMENT...]

Times are in ns of CLOCK_MONOTONIC and ticks of the TSC; the report is a line of JSON on standard
error.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

from pyrovm.abi import libos as abi
from pyrovm.image import index
from pyrovm.kvm import system  # noqa: F401
from pyrovm.libos import build
from pyrovm.memory.guest_memory import GuestMemory
from pyrovm.unikernel import vm  # noqa: F401
from pyrovm.unikernel.calls import Calls
from pyrovm.unikernel.program import Program, environment
from pyrovm.unikernel.run import Outcome, run


def main() -> int:
    """Run the program; its status."""
    image = index.find_or_build(sys.argv[1:2])
    program = Program(
        image.root, image.exe, [*image.argv, *sys.argv[2:]], environment("pyrovm"), cwd=image.cwd
    )
    libos = build.path()
    report: dict[str, int] = {}
    memory: list[GuestMemory] = []

    def prepare(calls: Calls) -> Callable[[], None]:
        memory.append(calls.memory)
        report["build_cpu_ns"] = time.thread_time_ns() - began
        return lambda: None

    def ended(outcome: Outcome) -> None:
        boot = abi.pv_boot(bytearray(memory[0].read(abi.PV_BOOT_GPA, abi.pv_boot.SIZE)))
        report.update(
            opened_ns=outcome.started_ns,
            built_ns=outcome.built_ns,
            ended_ns=outcome.ended_ns,
            entry_tsc=boot.tsc_base,
            tsc_khz=boot.tsc_khz,
        )

    began = time.thread_time_ns()
    outcome = run(program, libos, prepare=prepare, ended=ended)
    print(json.dumps(report), file=sys.stderr)
    return outcome.status


if __name__ == "__main__":
    sys.exit(main())
