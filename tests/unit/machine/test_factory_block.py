"""From a drive's record to its device."""

import os
from struct import pack

import pytest

from pyrovm.backends import uring
from pyrovm.backends.disk import Disk
from pyrovm.config.drive import DriveConfig
from pyrovm.config.rate_limiter import RateLimiterConfig, TokenBucketConfig
from pyrovm.errors import ConfigError, HostError, Unsupported
from pyrovm.machine.factory_block import make_block, update_block_path
from pyrovm.machine.factory_limiter import update_limiter


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(4096 + 100))
    return str(path)


def config(path, **fields):
    return DriveConfig(drive_id="rootfs", path_on_host=path, **fields).checked()


def test_a_drive_becomes_a_device(image):
    warnings = []
    limit = RateLimiterConfig(
        ops=TokenBucketConfig(size=9, refill_time=10),
        bandwidth=TokenBucketConfig(size=0, refill_time=1),
    )
    device = make_block(
        config(image, is_read_only=True, cache_type="Writeback", rate_limiter=limit),
        warn=warnings.append,
    )
    assert (device.name, device.read_only, device.cache_type) == ("rootfs", True, "Writeback")
    assert device.sectors == 8
    assert warnings == [
        "Disk size 4196 is not a multiple of sector size 512; "
        "the remainder will not be visible to the guest."
    ]
    assert device.limiter.ops.size == 9
    assert device.limiter.bandwidth is None
    device.close()


def test_a_missing_file_gives_the_contract_s_words(tmp_path):
    with pytest.raises(HostError) as caught:
        make_block(config(f"{tmp_path}/none"), warn=print)
    assert str(caught.value) == (
        "Virtio backend error: Error manipulating the backing file: "
        f"No such file or directory (os error 2) {tmp_path}/none"
    )


def test_a_drive_without_a_file_is_no_business_of_ours():
    with pytest.raises(ConfigError, match=r"^Invalid block config\.$"):
        make_block(DriveConfig(drive_id="a", socket="/x"), warn=print)


def test_async_on_a_host_without_io_uring_is_refused_and_closes_the_file(image, monkeypatch):
    def refuse(*_arguments):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(uring, "syscall", refuse)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(Unsupported, match="Virtio backend error: Unable to set up io_uring"):
        make_block(config(image, io_engine="Async"), warn=print)
    assert os.listdir("/proc/self/fd") == before


def test_another_path_takes_over(image, tmp_path):
    device = make_block(config(image), warn=print)
    (tmp_path / "other").write_bytes(bytes(512))
    update_block_path(device, config(f"{tmp_path}/other"), warn=print)
    assert device.config()[:8] == pack("<Q", 1)
    device.close()


def test_a_bad_path_leaves_the_device_its_file(image, tmp_path):
    device = make_block(config(image), warn=print)
    with pytest.raises(HostError, match=r"^Virtio backend error: .*os error 2"):
        update_block_path(device, config(f"{tmp_path}/none"), warn=print)
    assert device.sectors == 8
    assert device.counters.update_fails == 1
    assert isinstance(device._engine, Disk)
    device.close()


def test_an_update_names_the_buckets_it_changes():
    seen = []

    def update(limiter, *, bandwidth, ops):
        seen.append((limiter.bandwidth, limiter.ops, bandwidth, ops))

    unlimited = TokenBucketConfig(size=0, refill_time=0)
    update_limiter(update, RateLimiterConfig(ops=unlimited))
    assert seen == [(None, None, False, True)]
