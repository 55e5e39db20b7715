"""The balloon from the record of ``/balloon``."""

from __future__ import annotations

from pyrovm.devices.virtio_balloon import VirtioBalloon

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.config.balloon import BalloonConfig


def make_balloon(config: BalloonConfig) -> VirtioBalloon:
    """The balloon; the machine sets its ``release`` before the guest runs.

    Raises:
        ConfigError: its target has more pages than 32 bits can count.
    """
    return VirtioBalloon(
        config.amount_mib,
        deflate_on_oom=config.deflate_on_oom,
        stats_interval_s=config.stats_polling_interval_s,
        free_page_hinting=config.free_page_hinting,
        free_page_reporting=config.free_page_reporting,
    )
