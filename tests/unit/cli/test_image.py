import json

import pytest

from pyrovm.cli import build, image
from pyrovm.guest import programs

HELLO = "int main(void) { return 7; }\n"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PYROVM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def hello(tmp_path):
    for program in ("mkfs.erofs", "gcc"):
        if programs.find(program) is None:
            pytest.skip(f"no {program}")
    (tmp_path / "hello.c").write_text(HELLO)
    return str(tmp_path / "hello.c")


def test_a_build_says_what_went_in_and_why(hello, capsys):
    assert build.main([hello, "-e", "A=b", "--", "-x", "--json"]) == 0
    said = capsys.readouterr()
    for text in ("hello", "runs     /hello -x --json", "env      A=b", "compiled by", "base of"):
        assert text in said.out
    assert "image: hello is ready" in said.err


def test_a_build_for_programs(hello, capsys):
    build.main([hello, "--json", "--name", "seven"])
    record = json.loads(capsys.readouterr().out)
    assert record["names"] == ["seven"]
    assert record["argv"] == ["/hello"]
    assert record["files"]["/hello"]["why"].startswith("compiled by")
    assert record["digest"].startswith("sha256:")


def test_images_are_listed_inspected_sent_and_removed(hello, tmp_path, capsys):
    build.main([hello])
    capsys.readouterr()
    file = str(tmp_path / "image.tar")
    assert image.main(["list"]) == 0
    assert capsys.readouterr().out.startswith("hello  ")
    assert image.main(["inspect", "hello", "--files", "--verify"]) == 0
    assert "/etc/passwd  (base of every image)" in capsys.readouterr().out
    assert image.main(["export", "hello", file]) == 0
    assert image.main(["remove", "hello"]) == 0
    assert image.main(["list", "--json"]) == 0
    assert capsys.readouterr().out.endswith("[]\n")
    assert image.main(["import", file, "--name", "again"]) == 0
    assert capsys.readouterr().out.startswith("name     again\n")
    assert image.main(["prune"]) == 0
    assert capsys.readouterr().out == ""


def test_an_empty_list_says_how_to_make_one(capsys):
    assert image.main(["list"]) == 0
    assert "pyrovm build PROGRAM" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["inspect", "none"], "no image 'none'"),
        (["remove", "none"], "no image 'none'"),
        (["export", "none", "/no/such/folder/x"], "no image 'none'"),
        (["import", "/no/such/file"], "/no/such/file: No such file"),
        (["import", "/dev/null"], "the archive ends"),
    ],
)
def test_what_cannot_be_done_ends_with_1(words, said, capsys):
    assert image.main(words) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["/no/such/program"], "no such file or program"),
        (["ls", "--env", "A"], "NAME=VALUE"),
        (["ls", "--max-size", "0"], "at least 1"),
        (["ls", "--add", "/no/such/file"], "does not exist"),
        (["ls", "--add", "/etc:etc"], "no absolute path"),
        (["ls", "--name", "../x"], "image name"),
    ],
)
def test_a_build_that_cannot_be_ends_with_1(words, said, capsys):
    assert build.main(words) == 1
    assert said in capsys.readouterr().err


def test_without_the_tool_the_package_is_named(hello, monkeypatch, capsys):
    found = programs.find
    monkeypatch.setattr(programs, "find", lambda p: None if p == "mkfs.erofs" else found(p))
    assert build.main([hello]) == 1
    assert "install --no-install-recommends erofs-utils" in capsys.readouterr().err


def test_what_an_image_calls_itself_cannot_command_the_terminal(hello, capsys):
    build.main([hello, "--", "\x1b[2Jx"])
    assert "\x1b" not in capsys.readouterr().out
    image.main(["list"])
    assert "\x1b" not in capsys.readouterr().out
