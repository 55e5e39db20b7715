import os

import pytest

from pyrovm.errors import ConfigError, HostError
from pyrovm.image import base
from pyrovm.image.tree import Tree


@pytest.fixture
def tree():
    return Tree(max_bytes=1000)


def write(tree, folder):
    folder.mkdir()
    tree.write(folder, lambda fraction: None)
    return folder


def test_parents_come_by_themselves(tree, tmp_path):
    tree.add_file("/a/b/c", b"text", "why")
    root = write(tree, tmp_path / "root")
    assert (root / "a/b/c").read_bytes() == b"text"
    assert tree.nodes["/a"].kind == "folder"


def test_a_file_behind_a_link_lands_where_the_link_leads(tree):
    tree.add_link("/lib", "usr/lib", "merged")
    assert tree.add_file("/lib/x", b"", "why") == "/usr/lib/x"
    assert tree.get("/lib/x") is tree.nodes["/usr/lib/x"]


def test_links_of_the_host_are_kept(tree, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "lib.so.1.2").write_text("x")
    (tmp_path / "real" / "lib.so.1").symlink_to("lib.so.1.2")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    place = tree.add_host(f"{tmp_path}/link/lib.so.1", "why")
    assert place == f"{tmp_path}/real/lib.so.1.2"
    assert tree.nodes[f"{tmp_path}/link"].target == str(tmp_path / "real")
    assert tree.nodes[f"{tmp_path}/real/lib.so.1"].target == "lib.so.1.2"


def test_what_the_image_has_hides_the_host(tree, tmp_path):
    (tmp_path / "lib.so").write_text("of the host")
    tree.add_file(f"{tmp_path}/lib.so", b"of the image", "why")
    tree.add_host(f"{tmp_path}/lib.so", "other")
    assert tree.nodes[f"{tmp_path}/lib.so"].source == b"of the image"


def test_links_in_a_circle_are_refused(tree):
    tree.add_link("/a", "b", "why")
    tree.add_link("/b", "/a", "why")
    with pytest.raises(ConfigError, match="40 symbolic links"):
        tree.resolve("/a/file")


def test_dots_do_not_lead_out(tree, tmp_path):
    tree.add_link("/up", "../../..", "why")
    assert tree.add_file("/up/../file", b"", "why") == "/file"


def test_contents_beyond_the_limit_are_refused(tree):
    tree.add_file("/a", bytes(1000), "why")
    with pytest.raises(ConfigError, match=r"beyond .* MiB with /b.*--max-size"):
        tree.add_file("/b", b"x", "why")


def test_a_replaced_file_counts_once(tree):
    tree.add_file("/a", bytes(900), "why")
    tree.add_file("/a", bytes(800), "why")
    assert tree.size_bytes == 800


@pytest.mark.parametrize("path", ["relative", "", "/a\0b"])
def test_paths_are_absolute(tree, path):
    with pytest.raises(ConfigError, match="absolute path"):
        tree.add_file(path, b"", "why")


def test_a_file_is_no_folder(tree):
    tree.add_file("/a", b"", "why")
    with pytest.raises(ConfigError, match="is a file in the image"):
        tree.add_file("/a/b", b"", "why")
    with pytest.raises(ConfigError, match="to be a folder"):
        tree.add_folder("/a", "why")


def test_what_is_missing_on_the_host_is_named(tree, tmp_path):
    with pytest.raises(HostError, match=r"gone: No such file"):
        tree.add_host(f"{tmp_path}/gone", "why")


def test_a_folder_comes_with_links_and_modes_but_without_sockets(tree, tmp_path):
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "run").write_text("x")
    (source / "sub" / "run").chmod(0o4750)
    (source / "data").write_text("y")
    (source / "data").chmod(0o600)
    (source / "link").symlink_to("sub")
    os.mkfifo(source / "pipe")
    assert tree.add_host_folder(source, "/app", "why") == ["/app/data", "/app/sub/run"]
    assert tree.nodes["/app/link"].target == "sub"
    assert tree.nodes["/app/sub/run"].mode == 0o755
    assert tree.nodes["/app/data"].mode == 0o644
    assert "/app/pipe" not in tree.nodes
    assert "pipe: left out" in tree.remarks[0]


def test_the_base_leaves_alone_what_is_there(tree):
    tree.add_file("/etc/passwd", b"own", "why")
    tree.add_link("/tmp", "run", "why")
    base.add(tree)
    assert tree.nodes["/etc/passwd"].source == b"own"
    assert tree.nodes["/var/tmp"].mode == 0o1777
    assert b"127.0.0.53" in tree.nodes["/etc/resolv.conf"].source
