"""Questions that are answered in the lab: a script of ``inside``, a plan, an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyrovm
from pyrovm.bench.terms import Show
from pyrovm.lab import Lab, LabError

PACKAGE = Path(pyrovm.__file__).parent
TIMEOUT = 150.0  # seconds, for one script; several times what it takes
SILENCE = 75.0  # seconds: a script says every step that it takes
ATTEMPTS = 4
MEMORY_MIB = 1536

COUNTED = "counted ms"  # 10**6 instructions, of the VMM, of the kernels and of the guest


def ask(
    script: str,
    plan: Mapping[str, Any],
    *,
    assets: Mapping[str, Path],
    counted: bool,
    show: Show,
    memory_mib: int = MEMORY_MIB,
    timeout: float = TIMEOUT,
) -> Any:
    """Run ``inside/SCRIPT.py`` with ``plan`` in a lab of one CPU; its answer.

    Args:
        counted: let the lab's clock count instructions, 1 ns each, instead of telling the time:
            figures repeat, whatever else the machine is doing.
        show: is told what the script says of its progress.
        memory_mib: of the lab.
        timeout: seconds, after which it is tried again.

    Raises:
        LabError: the script failed.
    """
    for _ in range(ATTEMPTS):
        answer = _attempt(script, plan, assets, counted, show, memory_mib, timeout)
        if answer is not None:
            return answer
        # An emulator that counts instructions stands still now and then (QEMU 7.2: its CPU thread
        # turns without executing any), and everything in it.
        show("the lab stands still; once more")
    raise LabError(
        f"{script}.py did not end, or said nothing for {SILENCE:.0f} s, {ATTEMPTS} times"
    )


def _attempt(
    script: str,
    plan: Mapping[str, Any],
    assets: Mapping[str, Path],
    counted: bool,
    show: Show,
    memory_mib: int,
    timeout: float,
) -> Any:
    """The answer, or None where there was none in time."""
    last = b""

    def listen(data: bytes) -> None:
        nonlocal last
        *lines, last = (last + data).split(b"\n")
        for line in lines:
            heard.append(line)
            if line.startswith(b'{"progress"'):
                show(json.loads(line)["progress"])

    heard: list[bytes] = []
    with Lab(icount=0 if counted else None, peer=True, memory_mib=memory_mib) as lab:
        result = lab.run(
            [f"src/pyrovm/bench/inside/{script}.py", json.dumps(plan)],
            python=True,
            tree={"src/pyrovm": PACKAGE},
            env={"PYTHONPATH": "/job/tree/src"},
            assets=assets,
            timeout=timeout,
            silence=SILENCE,
            stdout=listen,
        )
    if result.timed_out:
        return None
    result.check()
    return json.loads(heard[-1])
