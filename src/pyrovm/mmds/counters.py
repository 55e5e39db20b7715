"""The ``mmds`` metrics, counted by all network stacks of a VM together."""

from __future__ import annotations

from pyrovm.virtio.counters import Counters


class MmdsCounters(Counters):
    """``rx`` is what the guest sends to the service, ``tx`` what it is sent back."""

    __slots__ = (
        "connections_created",
        "connections_destroyed",
        "rx_accepted",
        "rx_accepted_err",
        "rx_accepted_unusual",
        "rx_bad_eth",
        "rx_count",
        "rx_invalid_token",
        "rx_no_token",
        "tx_bytes",
        "tx_count",
        "tx_errors",
        "tx_frames",
    )

    connections_created: int
    connections_destroyed: int
    rx_accepted: int  # frames taken off the guest's hands
    rx_accepted_err: int  # of these: segments that make no sense
    rx_accepted_unusual: int  # of these: no TCP, or a reset, or a retransmission
    rx_bad_eth: int  # too short to be a frame
    rx_count: int  # TCP segments processed
    rx_invalid_token: int
    rx_no_token: int
    tx_bytes: int
    tx_count: int
    tx_errors: int  # resets that were not sent, for want of room
    tx_frames: int
