"""Every name in the metrics, once: groups in the order in which they are printed, their fields.

The public schema of Firecracker's metrics refuses unknown keys, so nothing is printed that is not
in this table, and everything that is in it is printed.
"""

from __future__ import annotations

_API_RESOURCES = (
    "actions boot_source drive logger machine_cfg cpu_cfg metrics network mmds vsock pmem serial "
    "hotplug_memory"
)
_PATCHED_RESOURCES = "drive network machine_cfg mmds hotplug_memory pmem"
_TIMED = "full_create_snapshot diff_create_snapshot load_snapshot pause_vm resume_vm"


def _counted(resources: str) -> str:
    return " ".join(f"{name}_count {name}_fails" for name in resources.split())


GROUPS: dict[str, tuple[str, ...]] = {
    group: tuple(fields.split())
    for group, fields in {
        "api_server": "process_startup_time_us process_startup_time_cpu_us",
        "balloon": (
            "activate_fails inflate_count stats_updates_count stats_update_fails deflate_count "
            "event_fails free_page_report_count free_page_report_freed free_page_report_fails "
            "free_page_hint_count free_page_hint_freed free_page_hint_fails"
        ),
        "block": (
            "activate_fails cfg_fails no_avail_buffer event_fails execute_fails "
            "invalid_reqs_count flush_count queue_event_count rate_limiter_event_count "
            "update_count update_fails read_bytes write_bytes read_count write_count read_agg "
            "write_agg rate_limiter_throttled_events io_engine_throttled_events "
            "remaining_reqs_count"
        ),
        "deprecated_api": "deprecated_http_api_calls",
        "get_api_requests": (
            "instance_info_count machine_cfg_count mmds_count vmm_version_count "
            "hotplug_memory_count"
        ),
        "i8042": (
            "error_count missed_read_count missed_write_count read_count reset_count write_count"
        ),
        "uart": (
            "error_count flush_count missed_read_count missed_write_count read_count write_count "
            "rate_limiter_dropped_bytes"
        ),
        "latencies_us": f"{_TIMED} {' '.join(f'vmm_{name}' for name in _TIMED.split())}",
        "logger": "missed_metrics_count metrics_fails missed_log_count rate_limited_log_count",
        "mmds": (
            "rx_accepted rx_accepted_err rx_accepted_unusual rx_bad_eth rx_invalid_token "
            "rx_no_token rx_count tx_bytes tx_count tx_errors tx_frames connections_created "
            "connections_destroyed"
        ),
        "net": (
            "activate_fails cfg_fails no_rx_avail_buffer no_tx_avail_buffer event_fails "
            "rx_queue_event_count rx_event_rate_limiter_count rx_rate_limiter_throttled "
            "rx_tap_event_count rx_bytes_count rx_packets_count rx_fails rx_count "
            "tap_read_fails tap_write_fails tap_write_agg tx_bytes_count tx_malformed_frames "
            "tx_fails tx_count tx_packets_count tx_queue_event_count "
            "tx_rate_limiter_event_count tx_rate_limiter_throttled tx_spoofed_mac_count "
            "tx_remaining_reqs_count"
        ),
        "patch_api_requests": _counted(_PATCHED_RESOURCES),
        "put_api_requests": _counted(_API_RESOURCES),
        "seccomp": "num_faults",
        "vcpu": (
            "exit_io_in exit_io_out exit_mmio_read exit_mmio_write failures kvmclock_ctrl_fails "
            "exit_io_in_agg exit_io_out_agg exit_mmio_read_agg exit_mmio_write_agg"
        ),
        "vmm": "panic_count",
        "signals": "sigbus sigsegv sigxfsz sigxcpu sigpipe sighup sigill",
        "vsock": (
            "activate_fails cfg_fails rx_queue_event_fails tx_queue_event_fails "
            "ev_queue_event_fails muxer_event_fails conn_event_fails rx_queue_event_count "
            "tx_queue_event_count rx_bytes_count tx_bytes_count rx_packets_count "
            "tx_packets_count conns_added conns_killed conns_removed killq_resync "
            "tx_flush_fails tx_write_fails rx_read_fails"
        ),
        "entropy": (
            "activate_fails entropy_event_fails entropy_event_count entropy_bytes "
            "host_rng_fails entropy_rate_limiter_throttled rate_limiter_event_count"
        ),
        "pmem": (
            "activate_fails cfg_fails event_fails queue_event_count "
            "rate_limiter_throttled_events rate_limiter_event_count"
        ),
        "vhost_user_block": (
            "activate_fails cfg_fails init_time_us activate_time_us config_change_time_us"
        ),
        "interrupts": "triggers config_updates",
        "memory_hotplug": (
            "activate_fails queue_event_fails queue_event_count "
            "plug_agg plug_count plug_bytes plug_fails "
            "unplug_agg unplug_count unplug_bytes unplug_fails unplug_discard_fails "
            "unplug_all_agg unplug_all_count unplug_all_fails "
            "state_agg state_count state_fails"
        ),
    }.items()
}

# Groups that are printed once for each device, as ``group_<id>``; these also as their sum.
PER_DEVICE = ("block", "net", "pmem", "vhost_user_block")
WITHOUT_SUM = ("vhost_user_block",)

# Fields that are printed as they are; all others are printed as the growth since the last line.
STORED = frozenset(
    {
        (group, field)
        for group in ("api_server", "latencies_us", "seccomp")
        for field in GROUPS[group]
    }
    | {("vmm", "panic_count")}
    | {("vhost_user_block", f"{name}_time_us") for name in ("init", "activate", "config_change")}
    | {("signals", field) for field in GROUPS["signals"] if field != "sigpipe"}
)
