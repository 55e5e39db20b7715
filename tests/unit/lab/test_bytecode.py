import importlib.util
import subprocess
import sys

import pytest

from pyrovm.lab import bytecode

pytestmark = pytest.mark.usefixtures("fresh_cache")


def test_python_loads_the_bytecode_without_a_look_at_the_source(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("VALUE = 'compiled'\n")
    assert bytecode.compile_tree(tmp_path) == 1
    (tmp_path / "package" / "__init__.py").write_text("VALUE = 'changed meanwhile'\n")
    argv = [sys.executable, "-c", "import package; print(package.VALUE, package.__file__)"]
    said = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["compiled", str(tmp_path / "package" / "__init__.py")]


def test_the_same_source_is_compiled_once(tmp_path):
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("x = 1\n")
    assert bytecode.compile_tree(tmp_path) == 1
    assert bytecode.compile_tree(tmp_path) == 0
    for name in ("a.py", "b.py"):
        assert (tmp_path / importlib.util.cache_from_source(name)).exists()


def test_a_file_that_is_no_python_is_left_alone(tmp_path):
    (tmp_path / "template.py").write_text("print 'python 2'\n")
    assert bytecode.compile_tree(tmp_path) == 0
    assert not (tmp_path / "__pycache__").exists()


def test_the_store_is_bounded(tmp_path, monkeypatch, fresh_cache):
    monkeypatch.setattr(bytecode, "_KEPT", 2)
    for number in range(4):
        (tmp_path / "module.py").write_text(f"x = {number}\n")
        bytecode.compile_tree(tmp_path)
    assert len(list((fresh_cache / "lab" / "bytecode").iterdir())) == 2
