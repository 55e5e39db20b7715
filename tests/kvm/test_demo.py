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
    timeline, _, memory = done.stdout.partition("timeline ")[2].partition("memory ")
    for moment in ("image found", "VM built", "program ended", "first byte on the host"):
        assert timeline.count(moment) == 3
    assert all(line.count("MiB") == 2 for line in memory.splitlines()[1:4])
