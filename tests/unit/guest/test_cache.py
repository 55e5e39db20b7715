import os
import subprocess
import sys
import threading

import pytest

from pyrovm.guest import cache


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("PYROVM_CACHE", raising=False)
    assert cache.root() == tmp_path / "xdg" / "pyrovm"
    monkeypatch.setenv("PYROVM_CACHE", str(tmp_path / "own"))
    assert cache.folder("a", "b") == tmp_path / "own" / "a" / "b"
    assert (tmp_path / "own" / "a" / "b").is_dir()


def test_a_lock_is_had_by_one_and_shared_by_many(tmp_path):
    lock = tmp_path / "lock"
    with cache.locked(lock), cache.unless_locked(lock) as free:
        assert not free
    with (
        cache.locked(lock, shared=True),
        cache.locked(lock, shared=True),
        cache.unless_locked(lock) as free,
    ):
        assert not free
    with cache.unless_locked(lock) as free:
        assert free


def test_whoever_has_to_wait_is_told(tmp_path):
    lock = tmp_path / "lock"
    waits, has_it = threading.Event(), threading.Event()

    def second():
        with cache.locked(lock, on_wait=waits.set):
            has_it.set()

    thread = threading.Thread(target=second)
    with cache.locked(lock):
        thread.start()
        assert waits.wait(30)
        assert not has_it.is_set()
    assert has_it.wait(30)
    thread.join()
    waits.clear()
    second()
    assert not waits.is_set()


def test_a_scratch_folder_is_gone_afterwards_even_if_it_cannot_be_written(tmp_path):
    with cache.scratch(tmp_path) as path:
        (path / "locked").mkdir()
        (path / "locked" / "file").write_text("x")
        (path / "locked").chmod(0o500)
        assert path.parent == tmp_path
    assert not path.exists()


def test_a_scratch_folder_in_use_is_not_swept(tmp_path):
    with cache.scratch(tmp_path) as path:
        assert cache.sweep(tmp_path) == []
        with cache.scratch(tmp_path) as second:
            assert path.exists()
            assert second != path


def test_what_a_killed_process_left_is_swept_by_the_next(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from pyrovm.guest import cache\n"
        "with cache.scratch(Path(sys.argv[1])) as path:\n"
        "    (path / 'file').write_text('x')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    (left,) = tmp_path.glob("tmp-*")
    seen = []
    with cache.scratch(tmp_path, before=seen.append):
        assert not left.exists()
    assert seen == [left]


def test_the_oldest_comes_first_and_use_makes_young(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    for number, path in enumerate(paths):
        path.touch()
        os.utime(path, (number, number))
    cache.touch(paths[0])
    cache.touch(tmp_path / "gone")
    assert cache.oldest_first([*paths, tmp_path / "gone"]) == [paths[1], paths[2], paths[0]]


def test_holes_take_no_place(tmp_path):
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 30)
    (tmp_path / "dense").write_bytes(b"x" * 8192)
    assert 8192 <= cache.size_on_disk(tmp_path) < 1 << 20


@pytest.mark.parametrize("make", [lambda p: p.write_text("x"), lambda p: p.mkdir(), lambda p: None])
def test_anything_can_be_removed_or_be_absent(tmp_path, make):
    path = tmp_path / "thing"
    make(path)
    cache.remove(path)
    assert not path.exists()
