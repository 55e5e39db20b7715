import os
import subprocess
import sys

import pytest

from pyrovm.errors import ConfigError
from pyrovm.image import index
from pyrovm.image.index import Entry

DIGEST = "ab" * 32
OTHER = "abcdef" + "0" * 58


@pytest.fixture(autouse=True)
def _cache(fresh_cache):
    pass


def put(digest=DIGEST, **fields):
    values = {"exe": "/x", "argv": ("x", "a b"), "env": (("A", "b=c\nd"),), "cwd": "/", **fields}
    made = Entry(digest, index.folder_of(digest), **values)
    os.makedirs(made.folder)
    with open(f"{made.folder}/{index.ENTRY}", "wb") as file:
        file.write(index.encode_entry(made))
    return made


def fields(entry):
    return {name: getattr(entry, name) for name in Entry.__slots__}


def test_an_entry_is_read_as_it_was_written():
    made = put(argv=("x", "", "=", "\udcff"))
    assert fields(index.entry(DIGEST)) == fields(made)
    assert index.entry(DIGEST).root == f"{made.folder}/root.erofs"
    assert index.entry(OTHER) is None


def test_an_image_is_found_until_something_it_was_made_of_changes(tmp_path):
    put()
    source, library = tmp_path / "program", tmp_path / "lib.so"
    for path in (source, library):
        path.write_text("one")
    assert index.find(str(source)) is None

    def remember():
        index.remember(str(source), DIGEST, [str(source), str(library), str(tmp_path / "later")])

    remember()
    assert index.find(str(source)).digest == DIGEST
    assert index.current() == [DIGEST]
    library.write_text("longer")
    assert index.find(str(source)) is None
    assert index.current() == []
    remember()
    os.utime(library, ns=(0, 12345))
    assert index.find(str(source)) is None
    remember()
    os.replace(source, tmp_path / "old")
    (tmp_path / "old2").write_text("one")
    os.utime(tmp_path / "old2", ns=(0, (tmp_path / "old").stat().st_mtime_ns))
    os.replace(tmp_path / "old2", source)  # same size and time, another file
    assert index.find(str(source)) is None
    remember()
    (tmp_path / "later").write_text("appears")
    assert index.find(str(source)) is None


def test_an_image_that_was_removed_is_not_found(tmp_path):
    index.remember(str(tmp_path / "x"), DIGEST, [])
    assert index.find(str(tmp_path / "x")) is None


@pytest.mark.parametrize("damage", [b"", b"x", b"pyrovm image index 1\0", b"\0\0\0\0"])
def test_a_damaged_note_is_none(tmp_path, damage):
    put()
    source = str(tmp_path / "x")
    index.remember(source, DIGEST, [])
    with open(index.index_path(source), "wb") as file:
        file.write(damage)
    assert index.find(source) is None
    assert index.current() == []


def test_a_note_of_another_program_under_the_same_key_is_none(tmp_path, monkeypatch):
    put()
    index.remember("/a", DIGEST, [])
    os.replace(index.index_path("/a"), index.index_path("/b"))
    assert index.find("/b") is None


def test_images_are_called_by_name_or_first_digits():
    put()
    put(OTHER)
    os.makedirs(f"{index.home()}/names")
    os.symlink(f"../{DIGEST}", f"{index.home()}/names/web")
    assert index.named("web").digest == DIGEST
    assert index.named(f"sha256:{DIGEST}").digest == DIGEST
    assert index.named("ababab").digest == DIGEST
    assert index.named("abcdef0").digest == OTHER
    for word in ("", "none", "abab", "ababac", "../web", "names", "index"):
        assert index.named(word) is None


def test_digits_that_several_images_share_are_refused():
    put("abcdef" + "1" * 58)
    put(OTHER)
    with pytest.raises(ConfigError, match="abcdef: 2 images"):
        index.named("abcdef")


@pytest.mark.parametrize("argv", [[], [""], ["/no/such/program"], ["no-such-program"]])
def test_a_program_that_is_not_there_is_named(argv):
    with pytest.raises(ConfigError, match="no such program"):
        index.find_or_build(argv)


def test_finding_an_image_imports_nothing_heavy(tmp_path):
    put()
    source = tmp_path / "program"
    source.write_text("x")
    index.remember(str(source), DIGEST, [str(source)])
    code = (
        "import sys; before = set(sys.modules)\n"
        "from pyrovm.image import index\n"
        "assert index.find_or_build([sys.argv[1]]).exe == '/x'\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    words = [sys.executable, "-S", "-c", code, str(source)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout
    imported = {name for name in said.split() if not name.startswith("pyrovm")}
    assert imported <= {
        "__future__",
        "os",
        "posixpath",
        "stat",
        "genericpath",
        "_stat",
        "os.path",
    } | {name for name in imported if name.startswith(("_collections_abc", "abc", "_abc"))}
