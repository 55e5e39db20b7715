"""Files that appear whole or not at all, whatever becomes of who writes them."""

import errno
import os
import stat
import subprocess
import sys

import pytest

from pyrovm.errors import HostError
from pyrovm.snapshot import part
from pyrovm.snapshot.part import Part

WRITER = """
import os, sys
from pyrovm.snapshot import part
from pyrovm.snapshot.part import Part
if sys.argv[2] == "named":
    Part._open_nameless = lambda self: -1
found = Part(sys.argv[1])
found.write(b"x" * 100_000, 0)
print("written", flush=True)
sys.stdin.readline()
found.publish()
print("published", flush=True)
sys.stdin.readline()
"""


@pytest.fixture(params=["nameless", "named"])
def way(request, monkeypatch):
    """A file system with O_TMPFILE, and one without."""
    if request.param == "named":
        monkeypatch.setattr(Part, "_open_nameless", lambda self: -1)
    return request.param


@pytest.mark.usefixtures("way")
def test_a_file_is_there_when_it_is_published_and_not_before(tmp_path):
    path = tmp_path / "file"
    with Part(str(path)) as found:
        found.write(b"abc", 0)
        found.write(b"def", 3)
        assert not path.exists()
        found.publish()
    assert path.read_bytes() == b"abcdef"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.usefixtures("way")
def test_what_was_there_stays_until_then_with_its_mode(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with Part(str(path)) as found:
        found.write(b"new", 0)
    assert path.read_bytes() == b"old"
    with Part(str(path)) as found:
        found.write(b"new", 0)
        found.publish()
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["file"]


def test_a_new_file_is_its_owners_only(tmp_path):
    with Part(str(tmp_path / "file")) as found:
        found.publish()
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_a_link_stays_one(tmp_path):
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    with Part(str(tmp_path / "link")) as found:
        found.write(b"new", 0)
        found.publish()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


def test_what_is_no_regular_file_is_written_in_place(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with Part(str(fifo)) as found:
        assert found.in_place
        with pytest.raises(HostError, match="Illegal seek"):
            found.write(b"x", 0)
    assert stat.S_ISFIFO(fifo.stat().st_mode)


@pytest.mark.usefixtures("way")
def test_where_nothing_can_be_made_what_is_there_is_written_in_place(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    real = os.open

    def refuse(name, flags, *args):
        if flags & (os.O_CREAT | os.O_TMPFILE) and not flags & os.O_DIRECTORY == flags:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(name, flags, *args)

    monkeypatch.setattr(part.Part, "_open_nameless", lambda self: refuse("", os.O_CREAT))
    with Part(str(path)) as found:
        assert found.in_place
        found.write(b"new", 0)
        found.publish()
    assert path.read_bytes() == b"new"
    with pytest.raises(HostError, match="Permission denied"):
        Part(str(tmp_path / "other"))


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(HostError, match=r"Cannot write .*/none/file: No such file or directory"):
        Part(str(tmp_path / "none" / "file"))


@pytest.mark.usefixtures("way")
def test_a_full_disk_at_the_very_end_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fsync(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    found = Part(str(path))
    found.write(b"new", 0)
    with pytest.raises(HostError, match="No space left on device"):
        found.publish()
    assert os.listdir(tmp_path) == ["file"]
    assert path.read_bytes() == b"old"


def test_a_long_name_has_room_for_the_parts_own(tmp_path, monkeypatch):
    monkeypatch.setattr(Part, "_open_nameless", lambda self: -1)
    path = tmp_path / ("ä" * 127)  # 254 bytes
    with Part(str(path)) as found:
        found.publish()
    assert path.exists()


@pytest.mark.parametrize("kind", ["nameless", "named"])
def test_a_killed_writer_leaves_nothing_that_lasts(tmp_path, kind):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, tmp_path / "file", kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "written\n"
        names = os.listdir(tmp_path)
        assert len(names) == (kind == "named")
        assert part.remove_left_over(str(tmp_path)) == []  # its owner is alive
        assert os.listdir(tmp_path) == names
        process.kill()
        process.wait()
    with Part(str(tmp_path / "other")) as found:
        found.publish()
    assert os.listdir(tmp_path) == ["other"]


def test_only_parts_are_removed(tmp_path):
    kept = {"x.pyrovm-part", ".hidden", ".a.b"}
    for name in kept:
        (tmp_path / name).touch()
    (tmp_path / ".x.0123.pyrovm-part").touch()
    os.mkfifo(tmp_path / ".y.0123.pyrovm-part")
    part.remove_left_over(str(tmp_path))
    assert kept == {name for name in os.listdir(tmp_path) if "0123" not in name}
    assert not (tmp_path / ".x.0123.pyrovm-part").exists()
