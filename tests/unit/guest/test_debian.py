import io
import shutil
import subprocess
import tarfile
from pathlib import PurePosixPath

import pytest

from pyrovm.errors import HostError, Unsupported
from pyrovm.guest import debian, programs
from pyrovm.guest.debian import Package, closure, parse_records

RECORDS = """\
Package: bash
Version: 5.2.15-2+b9
Pre-Depends: libc6 (>= 2.36), libtinfo6 (>= 6)
Depends: base-files (>= 2.1.12), debianutils (>= 2.15) | other
Description: GNU Bourne Again SHell
 A shell
 of two lines
Filename: pool/main/b/bash/bash_5.2.15-2+b9_amd64.deb

Package: virtual-only
Version: 1

Package: libc6
Version: 2.36
Filename: pool/main/g/glibc/libc6_2.36_amd64.deb
"""


def test_records_of_apt_are_read():
    bash, libc = parse_records(RECORDS)
    assert bash.filename == "bash_5.2.15-2+b9_amd64.deb"
    assert bash.depends == ("libc6", "libtinfo6", "base-files", "debianutils")
    assert libc == Package("libc6", "2.36", "libc6_2.36_amd64.deb", ())


def world(monkeypatch, **depends):
    known = {
        name: Package(name, "1", f"{name}.deb", tuple(needs)) for name, needs in depends.items()
    }
    monkeypatch.setattr(debian, "show", lambda names: {n: known[n] for n in names if n in known})


def test_a_closure_is_all_that_is_needed_but_what_is_left_out(monkeypatch):
    world(monkeypatch, app=["lib", "perl"], lib=["libc"], perl=["huge"], libc=["lib"])
    names = [package.name for package in closure(["app"], without={"perl"})]
    assert names == ["app", "lib", "libc"]


def test_a_dependency_that_apt_does_not_know_is_named(monkeypatch):
    world(monkeypatch, app=["awk"])
    with pytest.raises(HostError, match="apt has no package awk"):
        closure(["app"])


def test_without_apt_the_message_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(programs, "find", lambda _: None)
    with pytest.raises(Unsupported, match="apt-cache, apt-get"):
        debian.show(["bash"])


@pytest.fixture
def package(tmp_path):
    """A package with a program, a hard link, a link, a set-uid file and a device."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("dpkg-deb is not installed")
    control = tmp_path / "tree" / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text(
        "Package: t\nVersion: 1\nArchitecture: all\nMaintainer: nobody <n@example.org>\n"
        "Description: test\n"
    )
    top = tmp_path / "tree"
    (top / "bin").mkdir()
    (top / "bin" / "tool").write_text("program")
    (top / "bin" / "tool").chmod(0o4755)
    (top / "bin" / "same").hardlink_to(top / "bin" / "tool")
    (top / "bin" / "link").symlink_to("tool")
    (top / "usr/share/doc").mkdir(parents=True)
    (top / "usr/share/doc/readme").write_text("text")
    deb = tmp_path / "t.deb"
    subprocess.run(
        ["dpkg-deb", "-b", "--root-owner-group", top, deb], check=True, capture_output=True
    )
    return deb


def test_a_package_is_unpacked_into_a_merged_usr(package, tmp_path):
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    debian.unpack(package, root, lambda path: path.parts[:3] != ("usr", "share", "doc"))
    assert (root / "bin").is_symlink()
    assert (root / "usr/bin/tool").read_text() == "program"
    assert (root / "usr/bin/tool").stat().st_mode & 0o7777 == 0o4755
    assert (root / "usr/bin/same").samefile(root / "usr/bin/tool")
    assert (root / "usr/bin/link").readlink() == PurePosixPath("tool")
    assert not (root / "usr/share/doc").exists()
    debian.unpack(package, root)
    assert (root / "usr/share/doc/readme").read_text() == "text"


def test_what_is_no_package_is_an_error(tmp_path):
    if not shutil.which("dpkg-deb"):
        pytest.skip("dpkg-deb is not installed")
    (tmp_path / "no.deb").write_bytes(b"what")
    with pytest.raises((HostError, tarfile.TarError)):
        debian.unpack(tmp_path / "no.deb", tmp_path)


def test_device_nodes_are_left_out(tmp_path):
    node = tarfile.TarInfo("dev/null")
    node.type = tarfile.CHRTYPE
    with tarfile.open(fileobj=io.BytesIO(), mode="w") as archive:
        debian._unpack_member(archive, node, PurePosixPath("dev/null"), tmp_path)
    assert not (tmp_path / "dev/null").exists()
