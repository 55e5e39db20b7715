import json

import pytest

from pyrovm.cli import lab
from pyrovm.guest import programs


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PYROVM_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "required: COMMAND"),
        (["fly"], "invalid choice"),
        (["run"], "a command is needed behind --"),
        (["run", "--"], "a command is needed behind --"),
        (["run", "ls"], "unrecognized arguments: ls"),
        (["run", "--env", "novalue", "--", "ls"], "NAME=VALUE is needed"),
        (["run", "--cpus", "two", "--", "ls"], "invalid int value"),
    ],
)
def test_words_that_do_not_fit_end_with_2_and_the_usage(argv, says, capsys):
    with pytest.raises(SystemExit) as caught:
        lab.main(argv)
    assert caught.value.code == 2
    assert says in capsys.readouterr().err


def test_a_lab_that_cannot_run_ends_with_125_and_the_reason(monkeypatch, capsys):
    monkeypatch.setattr(programs, "find", lambda name: None)
    assert lab.main(["run", "--", "true"]) == 125
    error = capsys.readouterr().err
    assert error.startswith("pyrovm lab: not found: qemu-system-x86_64")
    assert "apt-get install" in error
    assert lab.main(["run", "--cpus", "2", "--icount", "0", "--", "true"]) == 125


def test_a_shell_needs_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(lab.os, "isatty", lambda fd: False)
    assert lab.main(["shell"]) == 125
    assert "no terminal" in capsys.readouterr().err


def test_the_status_of_an_empty_cache(capsys):
    assert lab.main(["status", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["kernel"], report["ready"], report["images"]) == (None, False, [])
    assert lab.main(["status"]) == 0
    assert "not fetched yet" in capsys.readouterr().out


def test_cleaning_an_empty_cache_frees_nothing(capsys):
    assert lab.main(["clean"]) == 0
    assert capsys.readouterr().out.startswith("0 MiB freed")
