"""The life cycle, beyond what the API's contract table asks (tests/unit/api)."""

from __future__ import annotations

import pytest

from pyrovm.config.boot_source import BootSourceConfig
from pyrovm.config.drive import DriveConfig, DriveUpdate
from pyrovm.config.metrics import MetricsConfig
from pyrovm.config.network import NetworkInterfaceConfig
from pyrovm.config.rate_limiter import RateLimiterConfig, TokenBucketConfig
from pyrovm.config.snapshot import MemoryBackend, SnapshotCreateParams, SnapshotLoadParams
from pyrovm.config.vsock import VsockConfig
from pyrovm.errors import HostError
from pyrovm.machine.controller import Controller
from pyrovm.machine.controller_fault import Fault
from pyrovm.machine.log import Log
from pyrovm.machine.loop import EventLoop
from pyrovm.machine.metrics import Metrics, PeriodicMetrics
from pyrovm.machine.resources import Resources
from tests.fakes.controller import FakeBuilder, FakeFactory


class World:
    """A controller and everything around it."""

    def __init__(self, folder):
        (folder / "kernel").touch()
        (folder / "disk").touch()
        self.folder = folder
        self.loop = EventLoop()
        log = Log("vm")
        self.metrics = Metrics(log, "vm")
        self.periodic = PeriodicMetrics(self.metrics, self.loop)
        self.builder = FakeBuilder()
        self.factory = FakeFactory()
        self.resources = Resources(self.factory, instance_id="vm")
        self.exit_codes = []
        self.controller = Controller(
            self.resources,
            self.builder,
            self.builder.load,
            version="1",
            log=log,
            metrics=self.metrics,
            periodic=self.periodic,
            on_exit=self.exit_codes.append,
        )

    def boot_source(self):
        self.controller.set_boot_source(
            BootSourceConfig(kernel_image_path=str(self.folder / "kernel"))
        )

    def start(self):
        self.boot_source()
        self.controller.start()
        return self.builder.machine


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.loop.close()


def test_metrics_are_written_soon_after_the_start_and_stand_still_while_paused(world, tmp_path):
    world.metrics.configure(MetricsConfig(metrics_path=str(tmp_path / "metrics")))
    world.start()
    timer = world.periodic._timer
    assert timer.armed
    timer.fire()
    assert (tmp_path / "metrics").read_text().count("\n") == 1
    assert '"block_rootfs"' in (tmp_path / "metrics").read_text()
    assert timer.armed
    world.controller.pause()
    assert not timer.armed
    world.controller.resume()
    assert timer.armed


def test_resuming_what_runs_does_not_disturb_the_metrics_clock(world):
    world.start()
    deadline = world.periodic._timer.deadline
    world.controller.resume()
    assert world.periodic._timer.deadline == deadline


def test_a_pause_that_fails_leaves_it_running(world):
    machine = world.start()
    machine.pause_error = HostError("vCPU 0 does not stop")
    with pytest.raises(Fault, match="Internal VMM error: vCPU 0 does not stop"):
        world.controller.pause()
    assert world.controller.state == "Running"


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 1)])
def test_the_end_of_the_machine_is_the_end_of_the_process(world, ok, code):
    world.start().stop(ok, "why")
    assert world.exit_codes == [code]


def test_closing_writes_the_last_line_and_closes_the_machine(world, tmp_path):
    world.metrics.configure(MetricsConfig(metrics_path=str(tmp_path / "metrics")))
    machine = world.start()
    world.periodic._timer.fire()
    world.controller.close()
    assert machine.calls == [("close",)]
    assert (tmp_path / "metrics").read_text().count("\n") == 2


def test_kernel_and_initrd_are_closed_once_the_machine_runs(world):
    world.start()
    assert (world.resources.kernel_fd, world.resources.initrd_fd) == (-1, -1)


def test_a_start_that_failed_can_be_repeated(world):
    calls = []

    def build(resources, on_stop):
        calls.append(resources.kernel_fd)
        if len(calls) == 1:
            raise HostError("No such device")
        return FakeBuilder()(resources, on_stop)

    world.controller._build = build
    world.boot_source()
    with pytest.raises(Fault, match="Start microvm error: No such device"):
        world.controller.start()
    assert world.controller.state == "Not started"
    world.controller.start()
    assert calls[0] == calls[1] >= 0


def test_a_limiter_is_not_touched_when_the_path_is_bad(world):
    drive = DriveConfig(drive_id="a", path_on_host=str(world.folder / "disk"))
    world.controller.put_drive(drive)
    machine = world.start()
    limiter = RateLimiterConfig(ops=TokenBucketConfig(size=1, refill_time=1))
    update = DriveUpdate(drive_id="a", path_on_host="/none", rate_limiter=limiter)
    with pytest.raises(Fault, match="os error 2"):
        world.controller.running.update_drive(update)
    assert machine.calls == []
    path = str(world.folder / "kernel")
    update = DriveUpdate(drive_id="a", path_on_host=path, rate_limiter=limiter)
    world.controller.running.update_drive(update)
    assert machine.calls == [("drive path", "a", path), ("drive limiter", "a", limiter)]


def test_inactive_devices_say_so(world):
    from pyrovm.config.balloon import BalloonConfig, BalloonUpdate
    from pyrovm.config.memory_hotplug import MemoryHotplugConfig, MemoryHotplugUpdate

    world.builder.is_active = False
    world.controller.set_balloon(BalloonConfig(amount_mib=1, deflate_on_oom=True))
    world.controller.set_memory_hotplug(MemoryHotplugConfig(total_size_mib=128))
    world.start()
    with pytest.raises(Fault) as caught:
        world.controller.running.update_balloon(BalloonUpdate(amount_mib=2))
    assert str(caught.value) == "Balloon update error: Balloon: Device not activated yet."
    assert world.controller.balloon_config().amount_mib == 1
    with pytest.raises(Fault) as caught:
        world.controller.running.update_memory_hotplug(MemoryHotplugUpdate(requested_size_mib=2))
    assert str(caught.value) == (
        "Memory hotplug update error: Failed to create memory hotplug device: Device is not active"
    )


# ------------------------------------------------------------------- snapshots


def load_params(world, name="state", **fields):
    return SnapshotLoadParams(
        snapshot_path=str(world.folder / name),
        mem_backend=MemoryBackend(backend_path="memory", backend_type="File"),
        **fields,
    )


def test_a_loaded_machine_is_paused_and_counts_for_started(world):
    (world.folder / "state").touch()
    world.controller.load_snapshot(load_params(world))
    assert world.controller.state == "Paused"
    assert not world.periodic._timer.armed
    assert world.builder.machine.calls == []
    with pytest.raises(Fault, match="not supported after starting the microVM"):
        world.boot_source()
    world.controller.resume()
    assert (world.controller.state, world.builder.machine.calls) == ("Running", [("resume",)])
    assert world.periodic._timer.armed
    assert world.exit_codes == []


def test_a_loaded_machine_may_run_at_once(world):
    (world.folder / "state").touch()
    world.controller.load_snapshot(load_params(world, resume_vm=True))
    assert (world.controller.state, world.builder.machine.calls) == ("Running", [("resume",)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "Failed to open snapshot file: No such file or directory \\(os error 2\\)$"),
        ("x", "CRC64 validation failed$"),
    ],
)
def test_a_load_that_fails_ends_the_process(world, content, message):
    if content is not None:
        (world.folder / "state").write_text(content)
    with pytest.raises(Fault, match=message) as caught:
        world.controller.load_snapshot(load_params(world))
    assert str(caught.value).startswith(
        "Load snapshot error: Failed to restore from snapshot: Failed to get snapshot state from "
    )
    assert world.exit_codes == [1]
    assert world.controller.state == "Not started"


def test_nothing_is_loaded_over_a_configuration(world):
    (world.folder / "state").touch()
    world.boot_source()
    with pytest.raises(Fault, match="not allowed after configuring boot-specific resources"):
        world.controller.load_snapshot(load_params(world))
    assert world.exit_codes == []


def test_a_snapshot_is_made_of_what_is_paused(world):
    params = SnapshotCreateParams(snapshot_path="state", mem_file_path="memory")
    with pytest.raises(Fault, match="before starting"):
        world.controller.create_snapshot(params)
    machine = world.start()
    with pytest.raises(Fault, match=r"^Create snapshot error: save/restore unavailable while run"):
        world.controller.create_snapshot(params)
    world.controller.pause()
    world.controller.create_snapshot(params)
    assert machine.calls[1:] == [("snapshot", 1, params)]
    full = SnapshotCreateParams(snapshot_path="state", mem_file_path="full")
    with pytest.raises(Fault, match=r"^Create snapshot error: Cannot write full: No space left"):
        world.controller.create_snapshot(full)
    world.controller.resume()
    assert world.controller.state == "Running"


# ------------------------------------------------------------------- resources


def drive(world, drive_id, **fields):
    return DriveConfig(drive_id=drive_id, path_on_host=str(world.folder / "disk"), **fields)


def ids(world):
    return [entry.config.drive_id for entry in world.resources.drives]


def test_the_root_drive_comes_first_whenever_it_came(world):
    for name in ("a", "b"):
        world.resources.put_drive(drive(world, name))
    world.resources.put_drive(drive(world, "root", is_root_device=True))
    assert ids(world) == ["root", "a", "b"]
    world.resources.put_drive(drive(world, "root"))
    world.resources.put_drive(drive(world, "b", is_root_device=True))
    assert ids(world) == ["b", "a", "root"]
    assert world.resources.has_root_drive


def test_a_replaced_drive_is_closed_after_the_new_one_is_open(world):
    world.resources.put_drive(drive(world, "a"))
    (old,) = world.factory.made
    with pytest.raises(HostError):
        world.resources.put_drive(DriveConfig(drive_id="a", path_on_host="/none"))
    assert old.closed == 0
    world.resources.put_drive(drive(world, "a", is_read_only=True))
    assert old.closed == 1
    assert world.resources.drives[0].device is world.factory.made[1]


def test_a_replaced_interface_is_closed_before_the_new_one_is_opened(world):
    nic = NetworkInterfaceConfig(iface_id="a", host_dev_name="tap0")
    for _ in range(2):  # the same tap can be had again, so it was free
        world.resources.put_network(nic)
    assert [device.closed for device in world.factory.made] == [1, 0]
    assert len(world.resources.networks) == 1


def test_a_mac_in_use_is_found_before_anything_is_closed(world):
    first = NetworkInterfaceConfig(
        iface_id="a", host_dev_name="tap0", guest_mac="06:00:00:00:00:01"
    )
    second = NetworkInterfaceConfig(iface_id="b", host_dev_name="tap1")
    world.resources.put_network(first)
    world.resources.put_network(second)
    clash = NetworkInterfaceConfig(iface_id="b", host_dev_name="tap2", guest_mac=first.guest_mac)
    with pytest.raises(Exception, match="already in use: 06:00:00:00:00:01"):
        world.resources.put_network(clash)
    assert [device.closed for device in world.factory.made] == [0, 0]
    world.resources.put_network(first)  # its own address is no clash


def test_a_second_vsock_removes_the_first_ones_socket(world):
    old = VsockConfig(guest_cid=3, uds_path=str(world.folder / "one"))
    new = VsockConfig(guest_cid=3, uds_path=str(world.folder / "two"))
    world.resources.put_vsock(old)
    world.resources.put_vsock(new)
    assert not (world.folder / "one").exists()
    assert [device.closed for device in world.factory.made] == [1, 0]
    taken = VsockConfig(guest_cid=3, uds_path=str(world.folder / "disk"))
    with pytest.raises(HostError, match="Address in use"):
        world.resources.put_vsock(taken)
    assert world.resources.vsock is None


def test_a_bad_boot_source_leaves_no_descriptor_and_the_old_one(world):
    import os

    world.boot_source()
    kernel_fd = world.resources.kernel_fd
    before = os.listdir("/proc/self/fd")
    for fields in ({"initrd_path": "/none"}, {"boot_args": "\n"}):
        with pytest.raises(Exception, match=r"initrd|command line"):
            world.resources.set_boot_source(
                BootSourceConfig(kernel_image_path=str(world.folder / "kernel"), **fields)
            )
    assert os.listdir("/proc/self/fd") == before
    assert world.resources.kernel_fd == kernel_fd


def test_a_static_and_a_custom_template_replace_each_other(world):
    from pyrovm.config.cpu_template import CpuTemplate
    from pyrovm.config.machine import MachineConfigUpdate

    world.resources.update_machine(MachineConfigUpdate(cpu_template="T2"))
    world.resources.set_cpu_template(CpuTemplate())
    assert world.resources.machine_config.cpu_template is None
    world.resources.update_machine(MachineConfigUpdate(vcpu_count=2))
    assert world.resources.cpu_template is not None
    world.resources.update_machine(MachineConfigUpdate(cpu_template="T2"))
    assert world.resources.cpu_template is None


def test_closing_what_never_ran_closes_every_device(world):
    world.resources.put_drive(drive(world, "a"))
    world.resources.put_network(NetworkInterfaceConfig(iface_id="a", host_dev_name="tap0"))
    world.resources.put_vsock(VsockConfig(guest_cid=3, uds_path=str(world.folder / "one")))
    world.boot_source()
    world.controller.close()
    assert [device.closed for device in world.factory.made] == [1, 1, 1]
    assert world.resources.kernel_fd == -1
