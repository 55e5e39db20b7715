"""What the socket device counts; "rx" is towards the guest, as for its queues."""

from __future__ import annotations

from pyrovm.virtio.counters import Counters


class VsockCounters(Counters):
    """The ``vsock`` metrics."""

    __slots__ = (
        "activate_fails",
        "cfg_fails",
        "conn_event_fails",
        "conns_added",
        "conns_killed",
        "conns_removed",
        "ev_queue_event_fails",
        "killq_resync",
        "muxer_event_fails",
        "rx_bytes_count",
        "rx_packets_count",
        "rx_queue_event_count",
        "rx_queue_event_fails",
        "rx_read_fails",
        "tx_bytes_count",
        "tx_flush_fails",
        "tx_packets_count",
        "tx_queue_event_count",
        "tx_queue_event_fails",
        "tx_write_fails",
    )

    activate_fails: int
    cfg_fails: int
    conn_event_fails: int
    conns_added: int
    conns_killed: int
    conns_removed: int
    ev_queue_event_fails: int
    killq_resync: int  # always 0: our kill queue holds every connection there can be
    muxer_event_fails: int
    rx_bytes_count: int
    rx_packets_count: int
    rx_queue_event_count: int
    rx_queue_event_fails: int
    rx_read_fails: int
    tx_bytes_count: int
    tx_flush_fails: int
    tx_packets_count: int
    tx_queue_event_count: int
    tx_queue_event_fails: int
    tx_write_fails: int
