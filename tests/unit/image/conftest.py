import subprocess

import pytest

from pyrovm.guest import programs


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    """An empty cache folder of the test's own."""
    monkeypatch.setenv("PYROVM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def mkfs(fresh_cache):
    """Images can be made, into a cache of the test's own."""
    if programs.find("mkfs.erofs") is None:
        pytest.skip("no mkfs.erofs: apt-get install erofs-utils")


@pytest.fixture
def gcc(tmp_path):
    """Compile C text: gcc(text, *flags, name=...) -> path."""
    if programs.find("gcc") is None:
        pytest.skip("no gcc")

    def compile_c(text, *flags, name="program"):
        target = tmp_path / name
        subprocess.run(
            ["gcc", "-x", "c", "-", "-o", target, *flags], input=text.encode(), check=True
        )
        return target

    return compile_c


@pytest.fixture
def extract(tmp_path):
    """Unpack an image's root: extract(image) -> folder."""
    if programs.find("fsck.erofs") is None:
        pytest.skip("no fsck.erofs: apt-get install erofs-utils")

    def unpack(image):
        target = tmp_path / f"root-{image.digest[:8]}"
        programs.run("fsck.erofs", f"--extract={target}", image.root)
        return target

    return unpack
