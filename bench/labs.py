"""Questions that are answered in the lab: a script of ``bench/inside``, a plan, an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.progress import Show
from pyrovm.lab import Lab

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 1200.0  # seconds

COUNTED = "counted ms"  # 10**6 instructions, of the VMM, of the kernels and of the guest


def ask(
    script: str,
    plan: Mapping[str, Any],
    *,
    assets: Mapping[str, Path],
    counted: bool,
    show: Show,
) -> Any:
    """Run ``bench/inside/SCRIPT.py`` with ``plan`` in a lab of one CPU; its answer.

    Args:
        counted: let the lab's clock count instructions, 1 ns each, instead of telling the time:
            figures repeat, whatever else the machine is doing.
        show: is told what the script says of its progress.

    Raises:
        LabError: the script failed.
    """
    last = b""

    def listen(data: bytes) -> None:
        nonlocal last
        *lines, last = (last + data).split(b"\n")
        for line in lines:
            heard.append(line)
            if line.startswith(b'{"progress"'):
                show(json.loads(line)["progress"])

    heard: list[bytes] = []
    with Lab(icount=0 if counted else None, peer=True) as lab:
        result = lab.run(
            [f"bench/inside/{script}.py", json.dumps(plan)],
            python=True,
            tree={
                "src": ROOT / "src",
                **{f"bench/{name}": ROOT / "bench" / name for name in ("inside", "smaps.py")},
            },
            env={"PYTHONPATH": "/job/tree:/job/tree/src"},
            assets=assets,
            timeout=TIMEOUT,
            stdout=listen,
        )
    result.check()
    return json.loads(heard[-1])
