"""The entropy device from the record of ``/entropy``."""

from __future__ import annotations

import os

from pyrovm.devices.virtio_rng import VirtioRng
from pyrovm.errors import HostError
from pyrovm.machine.factory_limiter import make_limiter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.config.entropy import EntropyConfig


def make_entropy(config: EntropyConfig) -> VirtioRng:
    """The device, with the host kernel's random numbers."""
    return VirtioRng(random_bytes, make_limiter(config.rate_limiter))


def random_bytes(count: int) -> bytes:
    """Random bytes from getrandom(2).

    Raises:
        HostError: the kernel has none.
    """
    try:
        return os.urandom(count)
    except OSError as error:
        raise HostError.wrap("getrandom", error) from None
