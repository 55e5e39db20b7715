"""A disk of one's own over a file of others: a model that is written to beside it says the same."""

import itertools
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrovm.abi.virtio import VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT
from pyrovm.backends.disk import Disk
from pyrovm.backends.disk_layer import CLUSTER, PrivateDisk, can_clone, is_base
from pyrovm.devices.virtio_block_request import Request
from pyrovm.errors import HostError
from pyrovm.virtio.queue import Chain

SIZE = 5 * CLUSTER + 1536  # the last cluster is not a whole one


def request(kind, offset=0, *views):
    return Request(Chain(0), kind, offset, list(views), sum(map(len, views)), memoryview(b""))


def read(disk, offset, size, pieces=1):
    buffer = bytearray(size)
    cuts = [size * n // pieces for n in range(pieces + 1)]
    views = [memoryview(buffer)[a:b] for a, b in itertools.pairwise(cuts)]
    assert disk.submit(request(VIRTIO_BLK_T_IN, offset, *views)) == size
    return bytes(buffer)


def write(disk, offset, data):
    half = len(data) // 2
    views = [memoryview(data[:half]), memoryview(data[half:])]
    assert disk.submit(request(VIRTIO_BLK_T_OUT, offset, *views)) == len(data)


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "base"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture
def disk(base):
    made = PrivateDisk(str(base))
    yield made
    made.close()


WRITES = st.lists(
    st.tuples(st.integers(0, SIZE // 512 - 1), st.integers(1, 300), st.integers(0, 255)),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(writes=WRITES, pieces=st.integers(1, 5))
def test_it_reads_what_was_written_to_it_and_the_base_elsewhere(tmp_path_factory, writes, pieces):
    base = tmp_path_factory.mktemp("layer") / "base"
    model = bytearray(os.urandom(SIZE))
    base.write_bytes(model)
    original = bytes(model)
    disk = PrivateDisk(str(base))
    try:
        for sector, count, value in writes:
            data = bytes([value]) * min(count * 512, SIZE - sector * 512)
            write(disk, sector * 512, data)
            model[sector * 512 : sector * 512 + len(data)] = data
        assert read(disk, 0, SIZE, pieces) == model
        for sector, count, _ in writes:
            size = min(count * 512, SIZE - sector * 512)
            assert read(disk, sector * 512, size) == model[sector * 512 :][:size]
        assert base.read_bytes() == original
    finally:
        disk.close()


def test_size_and_identity_are_those_of_the_base(base, disk):
    plain = Disk(str(base), read_only=True)
    assert (disk.size, disk.disk_id) == (plain.size, plain.disk_id)
    plain.close()
    assert disk.submit(request(VIRTIO_BLK_T_FLUSH)) == 0


def test_two_disks_of_one_base_do_not_see_each_other(base, disk):
    other = PrivateDisk(str(base))
    write(disk, 0, b"a" * 512)
    write(other, 0, b"b" * 512)
    assert (read(disk, 0, 512), read(other, 0, 512)) == (b"a" * 512, b"b" * 512)
    other.close()


def test_it_takes_no_more_room_than_was_written(disk):
    if not disk.is_layered:
        pytest.skip("this file system shares the blocks of files")
    write(disk, 4 * CLUSTER, b"x" * 512)
    assert os.fstat(disk._layer).st_blocks * 512 <= 2 * CLUSTER


def test_the_base_knows_that_it_is_one_as_long_as_there_is_a_layer(base, disk):
    fd = os.open(base, os.O_RDWR)
    try:
        assert is_base(fd) == disk.is_layered == (not can_clone(str(base)))
        disk.close()
        assert not is_base(fd)
    finally:
        os.close(fd)


def test_nothing_is_left_of_it_beside_the_base(base, disk):
    write(disk, 0, b"x" * 512)
    assert os.listdir(base.parent) == ["base"]


def test_a_base_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(HostError, match=r"No such file or directory \(os error 2\) .*/none"):
        PrivateDisk(str(tmp_path / "none"))


def test_a_full_host_is_an_error_of_the_request_and_harms_no_other(base, disk, monkeypatch):
    write(disk, 0, b"x" * 512)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwritev", full)
        data = memoryview(b"y" * CLUSTER)
        assert disk.submit(request(VIRTIO_BLK_T_OUT, CLUSTER, data)) == -28
    assert read(disk, CLUSTER, CLUSTER) == base.read_bytes()[CLUSTER : 2 * CLUSTER]
    assert read(disk, 0, 512) == b"x" * 512
