"""Some of CPython's own regression tests in a VM; tools/conformance.py runs many more."""

import json
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.fakes import program_guest
from tests.fakes.program_guest import run_process, run_vm

SUITE = Path(sysconfig.get_path("stdlib")) / "test"
INSIDE = Path(__file__).resolve().parents[2] / "tools" / "conformance_python_inside.py"
PYTHON = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(program_guest.why_not() is not None, reason=str(program_guest.why_not())),
    pytest.mark.skipif(
        not (SUITE / "test_struct.py").exists() or not PYTHON.exists(),
        reason=f"{PYTHON} has come without its tests",
    ),
]

BAD = ("failed", "error")
NO_PROCESS = "Function not implemented"


def results(done):
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('["')]
    return {name: (outcome, text) for name, outcome, text in lines}


@pytest.mark.parametrize("module", ["test_struct", "test_math", "test_json", "test_memoryio"])
def test_what_passes_here_passes_in_a_vm_unless_it_starts_a_process(module, tmp_path):
    arguments = ["-c", INSIDE.read_text(), module]
    here = results(run_process(PYTHON, *arguments, cwd=tmp_path))
    options = ["-v", f"{SUITE}:/suite/test:ro", "-e", "PYTHONPATH=/suite", "-w", "/tmp"]
    done = run_vm(PYTHON, *arguments, options=options)
    there = results(done)
    passed = [name for name, (outcome, _) in here.items() if outcome == "ok"]
    assert len(passed) > 10
    # The image has no modules that only tests need: what asks for them is skipped.
    bad = {name: there.get(name) for name in passed}
    bad = {name: result for name, result in bad.items() if result is None or result[0] in BAD}
    assert not {n: r for n, r in bad.items() if NO_PROCESS not in str(r)}, done.stderr
    assert sum(name in there and there[name][0] == "ok" for name in passed) > 0.8 * len(passed)
