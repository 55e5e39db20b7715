"""io_uring over real files; the kernel decides the order."""

import os
import select

import pytest

from pyrovm.abi.virtio import VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT
from pyrovm.backends import uring
from pyrovm.backends.disk import Disk
from pyrovm.backends.uring import ENTRIES, UringDisk
from pyrovm.devices.virtio_block_request import Request
from pyrovm.errors import Unsupported
from pyrovm.virtio.queue import Chain

SIZE = 1 << 20


def has_io_uring():
    try:
        uring.Ring(1).close()
    except Unsupported:
        return False
    return True


needs_io_uring = pytest.mark.skipif(not has_io_uring(), reason="this kernel offers no io_uring")


def request(kind, offset=0, *views, head=0):
    return Request(Chain(head), kind, offset, list(views), sum(map(len, views)), memoryview(b""))


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture
def disk(image):
    disk = UringDisk(Disk(str(image), False))
    yield disk
    disk.close()


def completed(disk, count):
    """Wait for ``count`` completions as the event loop would."""
    done = []
    poller = select.poll()
    poller.register(disk.completion_fd, select.POLLIN)
    while len(done) < count:
        assert poller.poll(10_000)
        done += disk.completed()
    return done


@needs_io_uring
def test_a_full_ring_of_reads_fills_all_buffers(disk, image):
    memory = memoryview(bytearray(SIZE))
    step = SIZE // ENTRIES
    requests = []
    for index in range(ENTRIES):
        view = memory[index * step : (index + 1) * step]
        views = [view] if index % 2 else [view[:100], view[100:100], view[100:]]
        requests.append(request(VIRTIO_BLK_T_IN, index * step, *views, head=index))
        assert disk.has_room
        assert disk.submit(requests[-1]) is None
    assert not disk.has_room
    disk.start()
    done = completed(disk, ENTRIES)
    assert {r.chain.head for r, _ in done} == set(range(ENTRIES))
    assert {result for _, result in done} == {step}
    assert memory == image.read_bytes()
    assert disk.has_room


@needs_io_uring
def test_more_requests_than_the_ring_has_entries_pass_through(disk):
    memory = memoryview(bytearray(512))
    for _ in range(ENTRIES * 2 + 5):
        disk.submit(request(VIRTIO_BLK_T_IN, 0, memory))
        disk.start()
        assert [result for _, result in completed(disk, 1)] == [512]


@needs_io_uring
def test_writes_and_flushes(disk, image):
    disk.submit(
        request(
            VIRTIO_BLK_T_OUT,
            512,
            memoryview(bytearray(b"a" * 300)),
            memoryview(bytearray(b"b" * 212)),
        )
    )
    disk.start()
    assert completed(disk, 1)[0][1] == 512
    disk.submit(request(VIRTIO_BLK_T_FLUSH))
    disk.start()
    assert completed(disk, 1)[0][1] == 0
    assert image.read_bytes()[512:1024] == b"a" * 300 + b"b" * 212


@needs_io_uring
def test_requests_without_data_complete_at_once(disk):
    assert disk.submit(request(VIRTIO_BLK_T_IN)) == 0
    assert disk.submit(request(VIRTIO_BLK_T_OUT)) == 0


@needs_io_uring
def test_a_read_past_the_end_is_sent_on_and_ends_short(disk):
    disk.submit(
        request(VIRTIO_BLK_T_IN, SIZE - 512, memoryview(bytearray(300)), memoryview(bytearray(724)))
    )
    disk.start()
    assert completed(disk, 1)[0][1] == 512


@needs_io_uring
def test_errors_are_negative(image):
    disk = UringDisk(Disk(str(image), True))
    disk.submit(request(VIRTIO_BLK_T_OUT, 0, memoryview(bytearray(512))))
    disk.start()
    assert completed(disk, 1)[0][1] == -9
    disk.close()


@needs_io_uring
def test_drain_waits_for_all_even_for_what_was_not_started(disk):
    for index in range(20):
        disk.submit(request(VIRTIO_BLK_T_IN, 0, memoryview(bytearray(65536)), head=index))
    assert len(disk.drain()) == 20
    assert disk.drain() == []


@needs_io_uring
def test_close_waits_and_releases_the_file(image):
    disk = UringDisk(Disk(str(image), False))
    memory = bytearray(4096)
    disk.submit(request(VIRTIO_BLK_T_IN, 0, memoryview(memory)))
    disk.close()
    assert memory == image.read_bytes()[:4096]
    disk.close()


def test_a_host_without_io_uring_is_named(monkeypatch):
    def refuse(*_arguments):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(uring, "syscall", refuse)
    with pytest.raises(Unsupported, match="Unable to set up io_uring: Function not implemented"):
        uring.Ring()
