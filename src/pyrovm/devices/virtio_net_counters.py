"""The ``net`` metrics."""

from __future__ import annotations

from pyrovm.virtio.counters import Counters, Latency


class NetCounters(Counters):
    """Of one interface."""

    __slots__ = (
        "activate_fails",
        "cfg_fails",
        "event_fails",
        "no_rx_avail_buffer",
        "no_tx_avail_buffer",
        "rx_bytes_count",
        "rx_count",
        "rx_event_rate_limiter_count",
        "rx_fails",
        "rx_packets_count",
        "rx_queue_event_count",
        "rx_rate_limiter_throttled",
        "rx_tap_event_count",
        "tap_read_fails",
        "tap_write_agg",
        "tap_write_fails",
        "tx_bytes_count",
        "tx_count",
        "tx_fails",
        "tx_malformed_frames",
        "tx_packets_count",
        "tx_queue_event_count",
        "tx_rate_limiter_event_count",
        "tx_rate_limiter_throttled",
        "tx_remaining_reqs_count",
        "tx_spoofed_mac_count",
    )

    activate_fails: int
    cfg_fails: int
    event_fails: int
    no_rx_avail_buffer: int
    no_tx_avail_buffer: int
    rx_bytes_count: int
    rx_count: int
    rx_event_rate_limiter_count: int
    rx_fails: int
    rx_packets_count: int
    rx_queue_event_count: int
    rx_rate_limiter_throttled: int
    rx_tap_event_count: int
    tap_read_fails: int
    tap_write_agg: Latency
    tap_write_fails: int
    tx_bytes_count: int
    tx_count: int
    tx_fails: int
    tx_malformed_frames: int
    tx_packets_count: int
    tx_queue_event_count: int
    tx_rate_limiter_event_count: int
    tx_rate_limiter_throttled: int
    tx_remaining_reqs_count: int
    tx_spoofed_mac_count: int
