import pytest

from pyrovm.errors import HostError, Unsupported
from pyrovm.guest import programs


def test_all_that_is_missing_is_named_with_one_line_to_install_it(monkeypatch):
    monkeypatch.setattr(programs, "find", lambda name: None)
    monkeypatch.setattr(programs.os, "geteuid", lambda: 1000)
    with pytest.raises(Unsupported) as caught:
        programs.require("qemu-system-x86_64", "mke2fs", "debugfs", "busybox")
    assert str(caught.value) == (
        "not found: qemu-system-x86_64, mke2fs, debugfs, busybox; on Debian: sudo apt-get install "
        "--no-install-recommends busybox-static e2fsprogs qemu-system-x86"
    )


def test_programs_are_found_in_order():
    sh, ls = programs.require("sh", "ls")
    assert (sh.name, ls.name) == ("sh", "ls")


def test_a_dynamic_busybox_will_not_do(monkeypatch, tmp_path):
    (tmp_path / "busybox").write_bytes(b"\x7fELF" + bytes(600) + b"/lib64/ld-linux-x86-64.so.2\0")
    monkeypatch.setattr(programs, "find", lambda name: tmp_path / name)
    with pytest.raises(Unsupported, match=r"dynamic.*busybox-static"):
        programs.static_busybox()


def test_a_program_that_fails_says_what_it_said():
    assert programs.run("cat", stdin=b"data") == b"data"
    assert programs.run("sh", "-c", "echo $WORD", env={"WORD": "w"}) == b"w\n"
    with pytest.raises(HostError, match="sh failed with status 3: oh no"):
        programs.run("sh", "-c", "echo oh no >&2; exit 3")
    with pytest.raises(Unsupported, match="no-such-program"):
        programs.run("no-such-program")
