"""``pyrovm demo programs``, as ``make run`` starts it."""

import subprocess
import sys

import pytest

from tests.fakes import program_guest
from tests.fakes.program_guest import TIMEOUT, environment

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(program_guest.why_not() is not None, reason=str(program_guest.why_not())),
]


def test_three_programs_are_shown_with_what_they_took():
    done = subprocess.run(
        [sys.executable, "-m", "pyrovm.cli.main", "demo", "programs"],
        capture_output=True, text=True, timeout=TIMEOUT, check=False, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "hello from C, in a VM: Linux" in done.stdout
    assert '"sqlite3": 499500' in done.stdout
    assert "200 OK" in done.stdout
    table = done.stdout.partition("program   ")[2].splitlines()[1:4]
    assert all(line.endswith("MiB") for line in table)
