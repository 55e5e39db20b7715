"""Block devices that another process serves, from the records of ``/drives``."""

from __future__ import annotations

from time import monotonic_ns

from pyrovm.backends.vhost_user_block import VhostUserBlockBackend
from pyrovm.devices.virtio_block import WRITEBACK
from pyrovm.devices.virtio_block_vhost_user import VhostUserBlock
from pyrovm.errors import ConfigError, HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.config.drive import DriveConfig


def make_vhost_user_block(config: DriveConfig) -> VhostUserBlock:
    """The device of a drive with a socket.

    Raises:
        ConfigError: the drive has no socket.
        HostError: ``Vhost-user backend error: …``: there is nobody, or nobody fit for it.
    """
    if config.socket is None:
        raise ConfigError("Invalid block config.")
    started = monotonic_ns()
    backend = VhostUserBlockBackend(config.socket, writeback=config.cache_type == WRITEBACK)
    try:
        device = VhostUserBlock(config.drive_id, backend)
    except HostError:
        backend.close()
        raise
    device.counters.init_time_us = (monotonic_ns() - started) // 1000
    return device
