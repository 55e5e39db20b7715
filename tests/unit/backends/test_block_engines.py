"""Both engines under the block device: a driver sees no difference but the order of answers."""

import select

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyrovm.abi import virtio as v
from pyrovm.backends.disk import Disk
from pyrovm.devices.virtio_block import VirtioBlock
from tests.fakes.driver import Driver
from tests.unit.backends.test_uring import needs_io_uring

SECTORS = 64
SECTOR = 512


def make_engine(name, path):
    disk = Disk(str(path), False)
    if name == "Sync":
        return disk
    from pyrovm.backends.uring import UringDisk

    return UringDisk(disk)


def settle(driver, engine, count):
    """Deliver completions until ``count`` requests are answered; their (head, written)."""
    used = driver.queues[0].take_used()
    while len(used) < count:
        assert select.select([engine.completion_fd], [], [], 20)[0]
        driver.loop.fire(engine.completion_fd)
        used += driver.queues[0].take_used()
    return used


# (writes, first sector, sectors); a batch must not touch a sector twice, since order is open.
extents = st.lists(
    st.tuples(st.booleans(), st.integers(0, SECTORS - 1), st.integers(0, 4)), max_size=12
)


@pytest.mark.parametrize("name", ["Sync", pytest.param("Async", marks=needs_io_uring)])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(extents, max_size=3), piece=st.integers(150, 700))
def test_any_requests_leave_the_disk_as_a_model_says(tmp_path, name, batches, piece):
    path = tmp_path / "disk.img"
    model = bytearray(bytes(range(256)) * (SECTORS * SECTOR // 256))
    path.write_bytes(model)
    engine = make_engine(name, path)
    device = VirtioBlock("disk", engine)
    driver = Driver(device)
    stamp = 0
    for batch in batches:
        taken, expected, answers = set(), [], {}
        for writes, first, count in batch:
            sectors = set(range(first, first + count))
            if sectors & taken:
                continue
            taken |= sectors
            stamp += 1
            size = count * SECTOR
            data = driver.alloc(max(size, 1), bytes([stamp]) * size if writes else b"")
            header = bytes([writes, 0, 0, 0, 0, 0, 0, 0]) + first.to_bytes(8, "little")
            header_at, status = driver.alloc(16, header), driver.alloc(1, b"\xff")
            parts = [(data + at, min(piece, size - at)) for at in range(0, size, piece)]
            readable = [(header_at, 16)] + (parts if writes else [])
            writable = ([] if writes else parts) + [(status, 1)]
            head = driver.queues[0].add(readable, writable)
            fits = first + count <= SECTORS
            answers[head] = 1 if writes or not fits else size + 1
            at = slice(first * SECTOR, first * SECTOR + size)
            if fits and writes:
                model[at] = bytes([stamp]) * size
            ok = v.VIRTIO_BLK_S_OK if fits else v.VIRTIO_BLK_S_IOERR
            expected.append((status, ok, data, None if writes or not fits else bytes(model[at])))
        driver.notify()
        assert dict(settle(driver, engine, len(expected))) == answers
        for status, ok, data, read in expected:
            assert driver.memory.read(status, 1)[0] == ok
            if read is not None:
                assert driver.memory.read(data, len(read)) == read
    device.close()
    assert path.read_bytes() == model
