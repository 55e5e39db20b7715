import os
from pathlib import Path

import pytest

from pyrovm.errors import ConfigError
from pyrovm.guest import disk, programs
from pyrovm.lab import jobdisk

pytestmark = [
    pytest.mark.usefixtures("fresh_cache"),
    pytest.mark.skipif(
        not (programs.find("mke2fs") and programs.find("debugfs")),
        reason="e2fsprogs is not installed",
    ),
]


def test_a_folder_becomes_the_tree_without_what_is_never_wanted(tmp_path):
    source = tmp_path / "source"
    for name in ("src/a.py", ".git/HEAD", "__pycache__/a.pyc", "big.iso", "data/x"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(f"{name}\n" if not name.endswith(".py") else "x = 1\n")
    disks = jobdisk.make_disks(tmp_path, source, skip=["*.iso"])
    assert disk.read_file(disks.job, "/tree/data/x") == b"data/x\n"
    assert disk.read_file(disks.job, "/tree/src/a.py") == b"x = 1\n"
    for name in (".git/HEAD", "big.iso", "__pycache__/a.pyc"):
        with pytest.raises(ConfigError):
            disk.read_file(disks.job, f"/tree/{name}")
    assert not (tmp_path / "job").exists(), "the copy is gone"
    assert disks.job.stat().st_size == jobdisk.JOB_BYTES
    assert disks.assets.stat().st_size == jobdisk.ASSETS_BYTES


def test_a_tree_can_be_given_as_files(tmp_path):
    (tmp_path / "real").write_text("on disk")
    disks = jobdisk.make_disks(tmp_path, {"a/b": b"bytes", "c": tmp_path / "real"})
    assert disk.read_file(disks.job, "/tree/a/b") == b"bytes"
    assert disk.read_file(disks.job, "/tree/c") == b"on disk"


@pytest.mark.parametrize("name", ["/absolute", "../up", "a/../../b", ""])
def test_names_outside_the_tree_are_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="relative"):
        jobdisk.make_disks(tmp_path, {name: b""})
    with pytest.raises(ConfigError, match="relative"):
        jobdisk.asset_disk({name: Path(__file__)})


def test_output_comes_back(tmp_path):
    disks = jobdisk.make_disks(tmp_path)
    (tmp_path / "result").write_text("found\n")
    programs.run("debugfs", "-w", "-R", f"write {tmp_path}/result /out/result", disks.job)
    assert (jobdisk.read_output(disks.job, tmp_path) / "result").read_text() == "found\n"


def test_the_disk_of_the_same_assets_is_made_once(tmp_path):
    asset = tmp_path / "kernel"
    asset.write_bytes(b"kernel")
    first = jobdisk.asset_disk({"vmlinux": asset})
    made = first.stat().st_ino
    assert jobdisk.asset_disk({"vmlinux": asset}) == first
    assert first.stat().st_ino == made
    assert disk.read_file(first, "/vmlinux") == b"kernel"
    assert jobdisk.asset_disk({"other-name": asset}) != first
    os.utime(asset, (1, 1))
    assert jobdisk.asset_disk({"vmlinux": asset}) != first


def test_only_the_asset_disks_used_last_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(jobdisk, "_ASSET_DISKS_KEPT", 2)
    images = []
    for number in range(3):
        asset = tmp_path / f"asset{number}"
        asset.write_text(str(number))
        images.append(jobdisk.asset_disk({"asset": asset}))
        os.utime(images[-1], (number, number))
    jobdisk.asset_disk({"asset": tmp_path / "asset1"})
    assert [image.exists() for image in images] == [False, True, True]


def test_an_asset_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"asset vmlinux: no file .*/nothing"):
        jobdisk.asset_disk({"vmlinux": tmp_path / "nothing"})
