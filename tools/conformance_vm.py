"""Run one program of an image that is no image of the cache: for tools/conformance.py.

    python tools/conformance_vm.py IMAGE.erofs SECONDS MEMORY_MIB FOLDER PROGRAM [ARGUMENTS ...]

Standard input and output are the program's; the exit status is its own, 124 after SECONDS.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))


def main() -> int:
    """Run it; the exit status."""
    from pyrovm.abi.libos import PV_FLAG_TRACE
    from pyrovm.libos import build
    from pyrovm.unikernel.outside import Outside
    from pyrovm.unikernel.program import MIB, Program
    from pyrovm.unikernel.run import run

    image, seconds, memory, folder, *command = sys.argv[1:]
    program = Program(
        image,
        command[0],
        command,
        {"PATH": "/usr/bin", "HOME": "/tmp", "LC_ALL": "C.UTF-8"},
        memory=int(memory) * MIB,
        cwd=folder,
        flags=PV_FLAG_TRACE if os.environ.get("CONFORMANCE_TRACE") else 0,
    )
    outcome = run(program, build.path(), timeout=float(seconds), prepare=Outside().attach)
    if outcome.panic:
        print(f"the library OS has failed: {outcome.panic}", file=sys.stderr)
    return outcome.status


if __name__ == "__main__":
    sys.exit(main())
