"""The metrics: every key, nothing else; growth and values; sinks that are full."""

from __future__ import annotations

import json
import os

import pytest

from pyrovm.config.metrics import MetricsConfig
from pyrovm.errors import ConfigError
from pyrovm.machine.log import Log
from pyrovm.machine.metrics import FIRST, PERIOD, Metrics, PeriodicMetrics
from pyrovm.machine.metrics_table import GROUPS, PER_DEVICE, STORED
from pyrovm.virtio.counters import Latency

TOP_LEVEL = (
    "utc_timestamp_ms api_server balloon block deprecated_api get_api_requests i8042 uart "
    "latencies_us logger mmds net patch_api_requests put_api_requests seccomp vcpu vmm signals "
    "vsock entropy pmem interrupts memory_hotplug"
)


class Source:
    """Counters that exist in full, set as wanted."""

    def __init__(self, group, **fields):
        for field in GROUPS[group]:
            setattr(self, field, Latency() if field.endswith("_agg") else 0)
        for field, value in fields.items():
            setattr(self, field, value)


@pytest.fixture
def metrics(tmp_path):
    metrics = Metrics(Log("vm"), "vm")
    metrics.configure(MetricsConfig(metrics_path=str(tmp_path / "metrics")))
    yield metrics
    metrics.close()


def written(tmp_path):
    return [json.loads(line) for line in (tmp_path / "metrics").read_text().splitlines()]


def test_a_line_has_every_key_and_no_other(metrics, tmp_path):
    assert metrics.write()
    (line,) = written(tmp_path)
    assert sorted(line) == sorted(TOP_LEVEL.split())
    for group, fields in GROUPS.items():
        if group != "vhost_user_block":
            assert sorted(line[group]) == sorted(fields)


def test_latencies_are_in_microseconds(metrics):
    latency = Latency()
    for ns in (1_500, 4_000, 2_999):
        latency.add(ns)
    metrics.sources = lambda: [("vcpu", None, Source("vcpu", exit_io_in_agg=latency))]
    assert metrics.collect()["vcpu"]["exit_io_in_agg"] == {"min_us": 1, "max_us": 4, "sum_us": 8}
    latency.add(10_000)
    assert metrics.collect()["vcpu"]["exit_io_in_agg"] == {"min_us": 1, "max_us": 10, "sum_us": 10}


def test_counters_are_printed_as_their_growth(metrics):
    metrics.add("get_api_requests", "mmds_count", 3)
    assert metrics.collect()["get_api_requests"]["mmds_count"] == 3
    assert metrics.collect()["get_api_requests"]["mmds_count"] == 0
    metrics.add("get_api_requests", "mmds_count")
    assert metrics.collect()["get_api_requests"]["mmds_count"] == 1


def test_stored_values_stay(metrics):
    metrics.store("latencies_us", "pause_vm", 17)
    assert metrics.collect()["latencies_us"]["pause_vm"] == 17
    assert metrics.collect()["latencies_us"]["pause_vm"] == 17


def test_names_that_do_not_exist_are_our_own_mistake(metrics):
    with pytest.raises(KeyError):
        metrics.add("get_api_requests", "nonsense")
    with pytest.raises(KeyError):
        metrics.store("nonsense", "pause_vm", 1)
    metrics.sources = lambda: [("nonsense", None, object())]
    with pytest.raises(KeyError, match="nonsense"):
        metrics.collect()


def test_devices_are_printed_one_by_one_and_summed(metrics):
    fast, slow = Latency(), Latency()
    fast.add(1_000)
    slow.add(9_000)
    one = Source("block", read_bytes=10, read_agg=fast)
    two = Source("block", read_bytes=5, read_agg=slow)
    metrics.sources = lambda: [("block", "rootfs", one), ("block", "data", two)]
    line = metrics.collect()
    assert line["block_rootfs"]["read_bytes"] == 10
    assert line["block_data"]["read_bytes"] == 5
    assert line["block"]["read_bytes"] == 15
    assert line["block"]["read_agg"] == {"min_us": 1, "max_us": 9, "sum_us": 10}
    two.read_bytes = 25
    line = metrics.collect()
    assert (line["block_rootfs"]["read_bytes"], line["block_data"]["read_bytes"]) == (0, 20)
    assert line["block"]["read_bytes"] == 20


def test_vhost_user_drives_have_no_sum(metrics):
    source = Source("vhost_user_block", init_time_us=5)
    metrics.sources = lambda: [("vhost_user_block", "a", source)]
    metrics.collect()
    line = metrics.collect()
    assert line["vhost_user_block_a"]["init_time_us"] == 5
    assert "vhost_user_block" not in line


def test_several_sources_of_one_group_are_summed(metrics):
    metrics.sources = lambda: [
        ("vcpu", None, Source("vcpu", exit_io_in=2)),
        ("vcpu", None, Source("vcpu", exit_io_in=3)),
    ]
    assert metrics.collect()["vcpu"]["exit_io_in"] == 5
    assert metrics.collect()["vcpu"]["exit_io_in"] == 0


def test_the_operators_own_words_are_on_every_line(tmp_path):
    metrics = Metrics(Log("vm"), "vm")
    metrics.configure(
        MetricsConfig(metrics_path=str(tmp_path / "metrics"), emit_id=True, properties={"a": 'b"'})
    )
    metrics.write()
    metrics.close()
    (line,) = written(tmp_path)
    assert list(line)[:3] == ["utc_timestamp_ms", "id", "properties"]
    assert (line["id"], line["properties"]) == ("vm", {"a": 'b"'})


def test_there_is_one_sink_in_a_process(metrics, tmp_path):
    with pytest.raises(ConfigError) as caught:
        metrics.configure(MetricsConfig(metrics_path=str(tmp_path / "other")))
    assert str(caught.value) == (
        "Cannot initialize the metrics system due to bad user input: Reinitialization of metrics "
        "not allowed."
    )
    assert not (tmp_path / "other").exists()


def test_a_sink_that_cannot_be_opened_may_be_followed_by_one_that_can(tmp_path):
    metrics = Metrics(Log("vm"), "vm")
    with pytest.raises(ConfigError, match="No such file or directory"):
        metrics.configure(MetricsConfig(metrics_path="/none/metrics"))
    metrics.configure(MetricsConfig(metrics_path=str(tmp_path / "metrics")))
    assert metrics.write()
    metrics.close()


def test_nothing_is_written_without_a_sink():
    assert not Metrics(Log("vm"), "vm").write()


def test_a_full_fifo_gets_whole_lines_or_none(tmp_path):
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    metrics = Metrics(Log("vm"), "vm")
    metrics.configure(MetricsConfig(metrics_path=path))
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    data = b""
    for _ in range(40):  # more than a pipe holds
        assert metrics.write()
    assert metrics.collect()["logger"]["missed_metrics_count"] > 0
    for _ in range(3):
        while chunk := _read(reader):
            data += chunk
        metrics.write()
    os.close(reader)
    metrics.close()
    whole = data.rpartition(b"\n")[0].splitlines()
    assert len(whole) >= 8
    assert all(json.loads(line)["utc_timestamp_ms"] for line in whole)


def _read(fd):
    try:
        return os.read(fd, 1 << 16)
    except BlockingIOError:
        return b""


def test_a_broken_sink_is_counted(metrics):
    os.close(metrics._fd)
    metrics._fd = os.open("/dev/full", os.O_WRONLY)
    assert metrics.write()
    logger = metrics.collect()["logger"]
    assert (logger["metrics_fails"], logger["missed_metrics_count"]) == (1, 1)


def test_lost_log_lines_are_counted(tmp_path):
    log = Log("vm")
    log._sink.fd = os.open("/dev/full", os.O_WRONLY)
    metrics = Metrics(log, "vm")
    log.info("lost")
    log.info("lost")
    assert metrics.collect()["logger"]["missed_log_count"] == 2
    assert metrics.collect()["logger"]["missed_log_count"] == 0
    log.close()


def test_every_stored_field_exists():
    for group, field in STORED:
        assert field in GROUPS[group]
    assert set(PER_DEVICE) <= set(GROUPS)


class FakeTimer:
    def __init__(self, callback):
        self.callback = callback
        self.armed_for = None

    def arm(self, seconds):
        self.armed_for = seconds

    def disarm(self):
        self.armed_for = None


class FakeLoop:
    def timer(self, callback):
        self.made = FakeTimer(callback)
        return self.made


def test_lines_come_soon_after_the_start_and_in_every_period(metrics, tmp_path):
    loop = FakeLoop()
    periodic = PeriodicMetrics(metrics, loop)
    assert loop.made.armed_for is None
    periodic.start()
    assert written(tmp_path) == []  # the guest comes first
    assert loop.made.armed_for == FIRST < 1
    periodic.suspend()
    periodic.resume()
    assert loop.made.armed_for == FIRST
    loop.made.callback()
    assert len(written(tmp_path)) == 1
    loop.made.callback()
    assert len(written(tmp_path)) == 2
    assert loop.made.armed_for == PERIOD == 60.0
    periodic.suspend()
    assert loop.made.armed_for is None
    periodic.resume()
    assert loop.made.armed_for == PERIOD
    assert len(written(tmp_path)) == 2


@pytest.mark.parametrize(
    "path",
    [
        "pyrovm.devices.virtio_rng:RngCounters:entropy",
        "pyrovm.devices.serial:SerialCounters:uart",
        "pyrovm.devices.i8042:I8042Counters:i8042",
        "pyrovm.devices.virtio_block:BlockCounters:block",
        "pyrovm.devices.virtio_net:NetCounters:net",
        "pyrovm.devices.virtio_balloon:BalloonCounters:balloon",
        "pyrovm.devices.virtio_pmem:PmemCounters:pmem",
        "pyrovm.devices.virtio_mem:MemCounters:memory_hotplug",
        "pyrovm.devices.virtio_block_vhost_user:VhostUserBlockCounters:vhost_user_block",
        "pyrovm.devices.vsock.counters:VsockCounters:vsock",
        "pyrovm.mmds.counters:MmdsCounters:mmds",
    ],
)
def test_the_devices_count_exactly_what_is_printed(path):
    from importlib import import_module

    module, name, group = path.split(":")
    counters = getattr(import_module(module), name)
    assert sorted(counters.__slots__) == sorted(GROUPS[group])
