import os
import sys
from pathlib import Path

import pytest

from pyrovm.lab.errors import LabError
from pyrovm.lab.stage import Stage, changed


@pytest.fixture
def stage(tmp_path):
    (tmp_path / "root").mkdir()
    return Stage(tmp_path / "root")


def test_a_program_comes_with_its_libraries(stage):
    binary = Path(os.path.realpath("/bin/sh"))
    stage.add_program(binary)
    assert stage.at(binary).read_bytes() == binary.read_bytes()
    assert any("libc.so" in name for name in stage.sources)
    for name in stage.sources:
        assert stage.at(name).exists()


def test_a_library_that_is_loaded_by_name_comes_along_where_there_is_one(stage):
    stage.add_library("libc.so.6")
    stage.add_library("libnonesuch.so.0")
    (source,) = stage.sources
    assert source.endswith("/libc.so.6")
    assert stage.at(source).exists()


def test_a_folder_is_taken_along_without_what_is_left_out(stage):
    source = Path(sys.modules["json"].__file__).parent
    stage.add_tree(source, skip=["scanner.py"])
    assert stage.at(source / "decoder.py").exists()
    assert not stage.at(source / "scanner.py").exists()
    assert str(source / "decoder.py") in stage.sources
    assert not any("__pycache__" in name for name in stage.sources)


def test_a_folder_that_the_lab_mounts_over_cannot_be_taken(stage):
    with pytest.raises(LabError, match="its own /tmp"):
        stage.add_tree(Path("/tmp/somewhere"))


def test_links_do_not_replace_what_is_there(stage):
    stage.add_text("/bin/tool", "real")
    stage.add_link("/bin/tool", "/bin/busybox")
    stage.add_link("/bin/other", "/bin/busybox")
    assert stage.at("/bin/tool").read_text() == "real"
    assert stage.at("/bin/other").readlink() == Path("/bin/busybox")


def test_a_file_that_has_changed_is_named(tmp_path):
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        path.write_text("x")
    noted = {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in paths}
    assert changed(noted) is None
    paths[1].write_text("longer")
    assert changed(noted) == str(paths[1])
    paths[0].unlink()
    assert changed(noted) == str(paths[0])
