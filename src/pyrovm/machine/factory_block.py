"""Block devices from the records of ``/drives``: the file is opened here."""

from __future__ import annotations

from pyrovm.backends.disk import Disk
from pyrovm.devices.virtio_block import VirtioBlock
from pyrovm.devices.virtio_block_request import SECTOR_SIZE
from pyrovm.errors import ConfigError, HostError
from pyrovm.machine.factory_limiter import make_limiter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.config.drive import DriveConfig
    from pyrovm.devices.virtio_block import BlockEngine

    Warn = Callable[[str], object]


def make_block(config: DriveConfig, *, warn: Warn, own: bool = False) -> VirtioBlock:
    """The device of a drive with a file; ``config`` is complete (:meth:`DriveConfig.checked`).

    ``own`` leaves the file as it is: what is written lasts as long as the device.

    Raises:
        ConfigError: the drive has no file.
        HostError: ``Virtio backend error: …``: the file cannot be opened, or the host has no
            io_uring for the ``Async`` engine.
    """
    return VirtioBlock(
        config.drive_id,
        open_engine(config, warn=warn, own=own),
        read_only=bool(config.is_read_only),
        cache_type=config.cache_type,
        limiter=make_limiter(config.rate_limiter),
    )


def update_block_path(device: VirtioBlock, config: DriveConfig, *, warn: Warn) -> None:
    """Go on with the file of ``config``, a changed record of the same drive.

    The caller holds the lock of the device's slot.

    Raises:
        HostError: as :func:`make_block`; the device keeps its file.
    """
    try:
        engine = open_engine(config, warn=warn)
    except HostError:
        device.counters.update_fails += 1
        raise
    device.update_engine(engine)


def open_engine(config: DriveConfig, *, warn: Warn, own: bool = False) -> BlockEngine:
    """Open the drive's file, for the engine that the drive asks for.

    Raises:
        ConfigError, HostError: as :func:`make_block`.
    """
    if config.path_on_host is None:
        raise ConfigError("Invalid block config.")
    if own:
        from pyrovm.backends.disk_layer import PrivateDisk

        return PrivateDisk(config.path_on_host)  # of the Sync engine, whatever the drive had
    disk = Disk(config.path_on_host, bool(config.is_read_only))
    if disk.size % SECTOR_SIZE:
        warn(
            f"Disk size {disk.size} is not a multiple of sector size {SECTOR_SIZE}; "
            "the remainder will not be visible to the guest."
        )
    if config.io_engine != "Async":
        return disk
    from pyrovm.backends.uring import UringDisk

    try:
        return UringDisk(disk)
    except HostError as error:
        disk.close()
        raise type(error)(f"Virtio backend error: {error}", error.errno) from None
