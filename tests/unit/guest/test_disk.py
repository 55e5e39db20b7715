import pytest

from pyrovm.errors import ConfigError
from pyrovm.guest import disk, programs

pytestmark = [
    pytest.mark.usefixtures("fresh_cache"),
    pytest.mark.skipif(
        not (programs.find("mke2fs") and programs.find("debugfs")),
        reason="e2fsprogs is not installed",
    ),
]


@pytest.fixture
def folder(tmp_path):
    top = tmp_path / "folder"
    (top / "sub folder").mkdir(parents=True)
    (top / "hello").write_bytes(b"world\n")
    (top / "sub folder" / "big").write_bytes(bytes(range(256)) * 5000)
    (top / "link").symlink_to("hello")
    return top


def test_files_go_in_and_come_out(folder, tmp_path):
    image = tmp_path / "image"
    disk.make_ext4(image, folder, journal=True, label="test")
    assert disk.read_file(image, "/hello") == b"world\n"
    assert disk.read_file(image, "/sub folder/big") == bytes(range(256)) * 5000
    disk.read_tree(image, "/sub folder", tmp_path)
    assert (tmp_path / "sub folder" / "big").stat().st_size == 256 * 5000


@pytest.mark.parametrize("path", ["/no/such", "/sub folder", "/link", "hello", '/a"b'])
def test_what_is_no_file_of_the_image_is_refused(folder, tmp_path, path):
    image = tmp_path / "image"
    disk.make_ext4(image, folder)
    with pytest.raises(ConfigError):
        disk.read_file(image, path)


def test_an_image_is_sparse_and_as_large_as_asked_for(tmp_path):
    image = tmp_path / "image"
    disk.make_ext4(image, size_bytes=1 << 30)
    status = image.stat()
    assert status.st_size == 1 << 30
    assert status.st_blocks * 512 < 64 << 20


def test_the_same_contents_make_the_same_reproducible_image(folder, tmp_path):
    images = [tmp_path / name for name in ("one", "two")]
    for number, image in enumerate(images):
        (folder / "hello").chmod(0o644)
        (folder / "hello").write_bytes(b"world\n")
        disk.make_ext4(image, folder, reproducible=True)
        if number == 0:
            (folder / "link").unlink()
            (folder / "link").symlink_to("hello")  # another inode, another time
    assert images[0].read_bytes() == images[1].read_bytes()


def test_a_reproducible_image_belongs_to_root(folder, tmp_path):
    image = tmp_path / "image"
    disk.make_ext4(image, folder, reproducible=True)
    said = programs.run(programs.require("debugfs")[0], "-R", "stat /hello", image).decode()
    assert "User:     0   Group:     0" in said
