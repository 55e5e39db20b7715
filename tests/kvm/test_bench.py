"""``pyrovm bench`` as a user types it: one question, few rounds, results in a file."""

import json
import subprocess
import sys

import pytest

from tests.fakes import program_guest
from tests.fakes.program_guest import TIMEOUT, environment

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(program_guest.why_not() is not None, reason=str(program_guest.why_not())),
]


def bench(*words):
    return subprocess.run(
        [sys.executable, "-m", "pyrovm.cli.main", "bench", *map(str, words)],
        capture_output=True, text=True, timeout=TIMEOUT, check=False, env=environment(),
    )  # fmt: skip


def test_a_quick_question_is_answered_beside_a_process_and_kept_with_its_facts(tmp_path):
    results = tmp_path / "results.json"
    done = bench("--quick", "--peers", "unshare", "process-start", "--json", results)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hello by pyrovm run: process start to first byte" in done.stdout
    assert "crun: not asked for" in done.stdout
    data = json.loads(results.read_text())
    (run,) = data["runs"]
    assert run["quick"]
    assert run["about"]["KVM of this machine"] in ("hardware", "software-only")
    command, _launcher, call = data["figures"]
    assert command["peer_name"] == "a plain process"
    assert list(command["others"]) == ["unshare"]
    assert command["command"] == "pyrovm bench process-start"
    assert call["ours"]["n"] == 3
    assert 0 < call["ours"]["median"] <= call["ours"]["p99"]
    assert [bars["slug"] for bars in data["bars"]] == ["start-up"]


def test_a_question_that_nobody_knows_is_refused_with_those_that_there_are():
    done = bench("why")
    assert done.returncode == 1
    assert "no question 'why'; there are: " in done.stderr
    assert "process-start" in done.stderr


def test_the_list_names_questions_and_peers():
    done = bench("--list")
    assert "process-start: How soon does one small program run" in done.stdout
    assert "    crun: " in done.stdout


def test_every_question_that_is_answered_natively_has_figures_and_fails_at_nothing(tmp_path):
    names = ["launcher", "solo5", "templates", "branch", "density", "programs-cpus"]
    results = tmp_path / "results.json"
    done = bench("--quick", "--peers", "none", *names, "--json", results)
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(results.read_text())
    assert {figure["question"] for figure in data["figures"]} == {*names}
    assert {curve["slug"] for curve in data["curves"]} == {"branch", "density"}
