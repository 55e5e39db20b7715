"""Disks over real files: opening, their identity, moving bytes."""

import os

import pytest

from pyrovm.abi.virtio import VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT
from pyrovm.backends.disk import Disk, remaining
from pyrovm.devices.virtio_block_request import Request
from pyrovm.errors import HostError
from pyrovm.virtio.queue import Chain

FAULT = "Virtio backend error: Error manipulating the backing file: "


def request(kind, offset=0, *views):
    return Request(Chain(0), kind, offset, list(views), sum(map(len, views)), memoryview(b""))


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(range(256)) * 16)
    return path


def opened(image, read_only=False):
    return Disk(str(image), read_only)


def test_size_and_identity_come_from_the_file(image):
    disk = opened(image)
    status = os.stat(image)
    assert disk.size == 4096
    assert disk.disk_id == f"{status.st_dev}{status.st_rdev}{status.st_ino}".encode()[:20]
    disk.close()


def test_bytes_move_between_the_file_and_several_buffers(image):
    disk = opened(image)
    first, second = memoryview(bytearray(100)), memoryview(bytearray(412))
    assert disk.submit(request(VIRTIO_BLK_T_IN, 512, first, second)) == 512
    assert bytes(first) + bytes(second) == image.read_bytes()[512:1024]
    assert disk.submit(request(VIRTIO_BLK_T_OUT, 1024, memoryview(b"a" * 5), memoryview(b"b"))) == 6
    assert image.read_bytes()[1024:1030] == b"aaaaab"
    assert disk.submit(request(VIRTIO_BLK_T_FLUSH)) == 0
    disk.close()


def test_a_request_without_data_moves_none(image):
    disk = opened(image)
    assert disk.submit(request(VIRTIO_BLK_T_IN)) == 0
    assert disk.submit(request(VIRTIO_BLK_T_OUT)) == 0
    disk.close()


def test_a_read_past_the_end_of_a_file_that_shrank_is_short(image):
    disk = opened(image)
    os.truncate(image, 1000)
    assert disk.submit(request(VIRTIO_BLK_T_IN, 512, memoryview(bytearray(1024)))) == 488
    disk.close()


@pytest.mark.parametrize(
    ("kind", "call"), [(VIRTIO_BLK_T_IN, "preadv"), (VIRTIO_BLK_T_OUT, "pwritev")]
)
def test_a_transfer_that_the_kernel_cuts_short_is_continued(image, monkeypatch, kind, call):
    real = getattr(os, call)
    monkeypatch.setattr(os, call, lambda fd, views, at: real(fd, [views[0][:100]], at))
    disk = opened(image)
    views = [memoryview(bytearray(b"x" * 150)), memoryview(bytearray(b"y" * 362))]
    assert disk.submit(request(kind, 0, *views)) == 512
    assert b"".join(views) == image.read_bytes()[:512]
    disk.close()


def test_a_read_only_disk_cannot_be_written(image):
    disk = opened(image, read_only=True)
    assert disk.submit(request(VIRTIO_BLK_T_OUT, 0, memoryview(b"x"))) < 0
    disk.close()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(HostError) as caught:
        Disk(str(tmp_path / "none"), False)
    assert str(caught.value) == f"{FAULT}No such file or directory (os error 2) {tmp_path}/none"


def test_a_directory_and_a_fifo_are_no_disks(tmp_path):
    with pytest.raises(HostError, match="os error 21"):
        Disk(str(tmp_path), False)
    with pytest.raises(HostError, match="os error 22"):
        Disk(str(tmp_path), True)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(HostError, match="os error 22"):
        Disk(str(tmp_path / "fifo"), False)


def test_what_remains_of_scattered_bytes():
    views = [memoryview(b"abc"), memoryview(b""), memoryview(b"defg")]
    assert b"".join(remaining(views, 0)) == b"abcdefg"
    assert b"".join(remaining(views, 2)) == b"cdefg"
    assert b"".join(remaining(views, 3)) == b"defg"
    assert remaining(views, 7) == []
