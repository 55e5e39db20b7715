import os
import re

import pytest

from pyrovm.image import runtimes
from pyrovm.image.libraries import Libraries
from pyrovm.image.tree import Tree
from tests.unit.image.elves import elf


@pytest.fixture
def language(tmp_path, monkeypatch):
    """A language whose program is home/bin/speak-2, a link leads to it, and what it reads."""
    home = tmp_path / "opt" / "speak"
    for folder in ("bin", "lib/words/inner", "conf"):
        (home / folder).mkdir(parents=True)
    (home / "bin" / "speak-2").write_bytes(b"")
    os.symlink(home / "bin" / "speak-2", tmp_path / "speak")
    (home / "lib" / "words" / "inner" / "hello").write_text("hello")
    (home / "lib" / "src.zip").write_text("sources")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "settings").write_text("settings")
    os.symlink(tmp_path / "etc" / "settings", home / "conf" / "settings")
    os.symlink("nowhere", home / "conf" / "dangling")
    monkeypatch.setattr(
        runtimes, "PROGRAMS", {r"speak-\d": ("{home}/l*", "{home}/conf", "{home}/none")}
    )
    return tmp_path


def test_a_program_is_known_by_its_own_name_and_place_not_its_links(language):
    home = language / "opt" / "speak"
    assert runtimes.of_program(str(language / "speak")) == [f"{home}/conf", f"{home}/lib"]
    assert runtimes.of_program(str(language / "opt" / "other")) == []


def test_what_is_within_another_place_is_named_once(tmp_path, monkeypatch):
    (tmp_path / "share" / "inner").mkdir(parents=True)
    places = (f"{tmp_path}/share", f"{tmp_path}/share/inner", f"{tmp_path}/sh*")
    monkeypatch.setattr(runtimes, "LIBRARIES", {"libx.so": places})
    assert runtimes.of_libraries(["liby.so.1", "libx.so.6"]) == [f"{tmp_path}/share"]
    assert runtimes.of_libraries(["libxx.so.6"]) == []


def test_folders_come_with_what_their_links_lead_to(language):
    tree, home = Tree(), language / "opt" / "speak"
    places = runtimes.of_program(str(language / "speak"))
    runtimes.add(tree, Libraries(tree), places, "read by speak")
    assert tree.get(f"{home}/lib/words/inner/hello").why == "read by speak"
    assert tree.get(f"{home}/lib/src.zip") is None
    assert tree.get(f"{home}/conf/settings").kind == "file"
    assert tree.nodes[f"{home}/conf/dangling"].kind == "link"


def test_a_place_is_found_by_the_path_with_links_too(tmp_path):
    (tmp_path / "usr" / "lib" / "words").mkdir(parents=True)
    (tmp_path / "usr" / "lib" / "words" / "hello").write_text("hello")
    os.symlink("usr/lib", tmp_path / "lib")
    tree = Tree()
    runtimes.add(tree, Libraries(tree), [f"{tmp_path}/lib/words"], "test")
    assert tree.get(f"{tmp_path}/lib/words/hello") == tree.get(f"{tmp_path}/usr/lib/words/hello")
    assert tree.get(f"{tmp_path}/lib/words/hello").kind == "file"


def test_plugins_bring_their_libraries_and_miss_some_without_a_word(tmp_path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "a.so").write_bytes(elf(needed=["libx-test.so", "libgone-test.so"]))
    tree = Tree()
    tree.add_file("/usr/lib/libx-test.so", elf(), "test")
    libraries = Libraries(tree)
    runtimes.add(tree, libraries, [f"{tmp_path}/plugins"], "test")
    assert libraries.names == ["libx-test.so"]
    assert tree.remarks == []


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("perl5.36.0", True),
        ("ruby3.1", True),
        ("tclsh8.6", True),
        ("lua5.4", True),
        ("luajit-2.1.0-beta3", True),
        ("perldoc", False),
        ("javaws", False),
        ("redis-server", False),
    ],
)
def test_versions_belong_to_names(path, known):
    assert any(re.fullmatch(name, path) for name in runtimes.PROGRAMS) == known
