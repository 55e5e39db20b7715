import stat

import pytest

from pyrovm.errors import ConfigError
from pyrovm.guest import cpio, programs
from pyrovm.guest.initramfs import Initramfs, shell_init
from pyrovm.guest.modules import ModuleTree


@pytest.fixture
def busybox(tmp_path, monkeypatch):
    """A stand-in for busybox that knows three applets."""
    program = tmp_path / "busybox"
    program.write_text("#!/bin/sh\nprintf 'busybox\\nsh\\nls\\n'\n")
    program.chmod(0o755)
    monkeypatch.setattr(programs, "static_busybox", lambda: program)
    return program


def contents(image):
    return {entry.name: entry for entry in cpio.unpack(image)}


def test_folders_come_into_being_before_what_is_in_them():
    image = Initramfs()
    image.add_file("/a/b/c", b"data", 0o755)
    names = [entry.name for entry in cpio.unpack(image.build())]
    assert names == ["a", "a/b", "a/b/c"]
    files = contents(image.build())
    assert files["a"].mode == stat.S_IFDIR | 0o755
    assert (files["a/b/c"].mode, files["a/b/c"].data) == (stat.S_IFREG | 0o755, b"data")


def test_a_file_of_the_host_keeps_its_mode(tmp_path):
    (tmp_path / "tool").write_bytes(b"x")
    (tmp_path / "tool").chmod(0o750)
    image = Initramfs()
    image.add_file("bin/tool", tmp_path / "tool")
    assert contents(image.build())["bin/tool"].mode == stat.S_IFREG | 0o750


def test_the_order_of_adding_does_not_show():
    first, second = Initramfs(), Initramfs()
    first.add_file("a", b"1")
    first.add_link("b/c", "../a")
    second.add_link("b/c", "../a")
    second.add_file("a", b"1")
    assert first.build() == second.build()


@pytest.mark.parametrize("path", ["", "/", "../up", "a/../b", "TRAILER!!!"])
def test_a_path_that_cannot_be_is_refused(path):
    with pytest.raises(ConfigError, match="no path"):
        Initramfs().add_file(path, b"")


def test_busybox_comes_with_a_link_for_each_applet(busybox):
    image = Initramfs()
    image.add_file("bin/ls", b"a real ls", 0o755)
    image.add_busybox()
    files = contents(image.build())
    assert files["bin/busybox"].data == busybox.read_bytes()
    assert files["bin/sh"].data == b"busybox"
    assert files["bin/ls"].data == b"a real ls", "what is there is kept"


def test_an_init_script_loads_its_modules_in_order(busybox, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "low.ko").write_bytes(b"\0depends=\0")
    (tmp_path / "m" / "high.ko").write_bytes(b"\0depends=low\0")
    image = shell_init("reboot -f\n", modules=ModuleTree(tmp_path / "m"), names=["high"])
    files = contents(image)
    assert files["lib/early/order"].data == b"low high"
    init = files["init"]
    assert init.mode == stat.S_IFREG | 0o755
    assert init.data.startswith(b"#!/bin/sh\n")
    assert init.data.index(b"insmod") < init.data.index(b"reboot -f")
    console = files["dev/console"]
    assert stat.S_ISCHR(console.mode)
    assert console.device == (5, 1)
