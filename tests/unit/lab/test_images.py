import json
import os

import pytest

from pyrovm.guest import cache, kernels
from pyrovm.lab import images
from pyrovm.lab.errors import LabError


@pytest.fixture
def kernel(fresh_cache):
    made = kernels.home() / "making"
    made.mkdir(parents=True)
    return kernels.add(made, "debian-1", flavour="debian", release="6", source="s", key="k1")


def make(kernel, sources, content="c", peer=False):
    name = f"images-{images._options_key(peer, kernel)}-{content}"
    folder = images.cache_folder() / name
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(sources))
    return folder


def test_without_a_kernel_there_are_no_images(fresh_cache):
    assert images.current() is None


def test_images_fit_as_long_as_nothing_on_the_host_has_changed(kernel, tmp_path):
    program = tmp_path / "program"
    program.write_text("x")
    status = program.stat()
    folder = make(kernel, {str(program): (status.st_size, status.st_mtime_ns)})
    assert images.current().folder == folder
    assert images.current(peer=True) is None
    program.write_text("another version")
    assert images.current() is None


def test_images_of_another_kernel_or_of_other_sources_do_not_fit(kernel, monkeypatch):
    make(kernel, {})
    assert images.current() is not None
    monkeypatch.setattr(images, "_SOURCES", ("agent.py",))
    assert images.current() is None


def test_only_the_images_used_last_are_kept_and_those_in_use(kernel):
    folders = []
    for number in range(4):
        folders.append(make(kernel, {}, content=str(number)))
        os.utime(folders[-1], (number, number))
    with images.Images(folders[0]).in_use():
        assert images.prune(keep=2) == [folders[1]]
    assert images.prune(keep=2) == [folders[0]]
    assert [folder.exists() for folder in folders] == [False, False, True, True]
    assert not list(images.cache_folder().glob("images-*-0*"))


def test_images_removed_meanwhile_are_not_used(kernel):
    folder = make(kernel, {})
    found = images.current()
    cache.remove(folder)
    with pytest.raises(LabError, match="removed meanwhile"), found.in_use():
        pass
