import json

import pytest

from pyrovm.cli import kernel
from pyrovm.guest import kernels, programs


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PYROVM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def full():
    made = kernels.home() / "making"
    made.mkdir()
    (made / "vmlinux").write_bytes(b"ELF")
    return kernels.add(made, "full-1", flavour="full", release="6.12", source="s 1", key="k")


def test_an_empty_list_says_how_to_get_one(capsys):
    assert kernel.main(["list"]) == 0
    assert "pyrovm kernel fetch" in capsys.readouterr().out
    assert kernel.main(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_kernels_are_listed_found_and_removed(full, capsys):
    kernel.main(["list"])
    assert capsys.readouterr().out.startswith("full-1  6.12 ")
    kernel.main(["list", "--json"])
    (record,) = json.loads(capsys.readouterr().out)
    assert record["vmlinux"] == str(full.vmlinux)
    assert record["modules"] is None
    kernel.main(["path", "lean", "--file", "config"])
    assert capsys.readouterr().out == f"{full.config}\n"
    assert kernel.main(["remove", "full-1"]) == 0
    assert kernels.installed() == []


def test_a_kernel_with_built_in_drivers_needs_no_initramfs(full, capsys):
    assert kernel.main(["path", "full", "--file", "initramfs"]) == 1
    assert "built in" in capsys.readouterr().err


def test_what_is_not_there_ends_with_1_and_the_way_to_get_it(capsys):
    assert kernel.main(["path", "debian"]) == 1
    assert "try: pyrovm kernel fetch" in capsys.readouterr().err
    assert kernel.main(["remove", "nothing"]) == 1


def test_a_build_without_its_tools_names_the_packages(monkeypatch, capsys):
    monkeypatch.setattr(programs, "find", lambda name: None)
    assert kernel.main(["build"]) == 1
    error = capsys.readouterr().err
    assert "apt-get install" in error
    assert "flex" in error


@pytest.mark.parametrize("argv", [[], ["build", "tiny"], ["path"], ["remove"]])
def test_words_that_do_not_fit_end_with_2(argv):
    with pytest.raises(SystemExit) as caught:
        kernel.main(argv)
    assert caught.value.code == 2
