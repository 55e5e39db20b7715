import pytest

from pyrovm.image.which import find_program, find_source, is_python


def program(path, text="\x7fELF"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PATH", f"{tmp_path}/a:{tmp_path}/b:")
    monkeypatch.delenv("PYENV_VERSION", raising=False)
    return tmp_path / "here"


def test_the_first_on_path_that_can_be_run(here, tmp_path):
    (tmp_path / "a" / "tool").mkdir(parents=True)  # a folder is no program
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "text").write_text("x")  # nor is what may not be run
    wanted = program(tmp_path / "b" / "tool")
    assert find_program("tool") == wanted
    assert find_program("text") is None


def test_the_current_folder_comes_last_but_for_sources(here, tmp_path):
    program(here / "tool")
    assert find_source("tool") == str(here / "tool")
    wanted = program(tmp_path / "a" / "tool")
    assert find_source("tool") == wanted
    program(tmp_path / "a" / "app.py")
    (here / "app.py").write_text("")
    assert find_source("app.py") == str(here / "app.py")


def test_paths_are_made_absolute_and_must_exist(here, tmp_path):
    program(tmp_path / "x")
    assert find_source("../x") == str(tmp_path / "x")
    assert find_source("./x") is None
    assert find_source("") is None
    assert find_source("a\0b") is None


def test_a_stand_in_of_pyenv_is_replaced_by_what_it_would_start(here, tmp_path, monkeypatch):
    root = tmp_path / "pyenv"
    program(root / "shims" / "python3", "#!/bin/sh\n")
    old = program(root / "versions" / "3.9.9" / "bin" / "python3")
    new = program(root / "versions" / "3.11.10" / "bin" / "python3")
    program(root / "versions" / "3.11.9" / "bin" / "python3")
    monkeypatch.setenv("PATH", f"{root}/shims:{tmp_path}/b")
    (root / "version").write_text("3.9.9\n")
    assert find_program("python3") == old
    (tmp_path / ".python-version").write_text("3.11\n")
    assert find_program("python3") == new
    monkeypatch.setenv("PYENV_VERSION", "3.9.9")
    assert find_program("python3") == old
    monkeypatch.setenv("PYENV_VERSION", "system")
    assert find_program("python3") is None
    behind = program(tmp_path / "b" / "python3")
    assert find_program("python3") == behind


@pytest.mark.parametrize("name", ["python", "python3", "python3.11", "/usr/bin/python3.13"])
def test_names_of_the_interpreter(name):
    assert is_python(name)


@pytest.mark.parametrize(
    "name", ["python3-config", "pypy3", "python3.11-dbg", "ipython", "/python/x"]
)
def test_names_of_others(name):
    assert not is_python(name)
