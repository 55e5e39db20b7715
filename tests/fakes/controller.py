"""A factory, a builder and a machine for the controller that touch nothing but a few files."""

from __future__ import annotations

import errno
import os

from pyrovm.errors import ConfigError, HostError, SnapshotError, StateError, os_error
from pyrovm.machine.machine import StopReason
from pyrovm.virtio.counters import Latency


class FakeDevice:
    """Counts how often it was closed."""

    def __init__(self, config):
        self.config = config
        self.closed = 0

    def close(self):
        self.closed += 1


class FakeFactory:
    """Opens real files; taps that are called ``missing...`` are missing, others are free once."""

    def __init__(self):
        self.made = []

    def _device(self, config):
        device = FakeDevice(config)
        self.made.append(device)
        return device

    def block(self, config):
        if config.socket is None:
            try:
                os.close(os.open(config.path_on_host, os.O_RDONLY))
            except OSError as error:
                raise HostError(
                    "Virtio backend error: Error manipulating the backing file: "
                    f"{os_error(error)} {config.path_on_host}"
                ) from None
        return self._device(config)

    def net(self, config):
        used = [
            device
            for device in self.made
            if not device.closed
            and getattr(device.config, "host_dev_name", "") == config.host_dev_name
        ]
        if used:
            raise HostError(
                "Open tap device failed: Error while creating ifreq structure: Resource busy (os "
                f"error 16). Invalid TUN/TAP Backend provided by {config.host_dev_name}. Check our "
                "documentation on setting up the network devices."
            )
        if len(config.host_dev_name) > 15:
            raise ConfigError("Open tap device failed: Invalid interface name")
        if config.mtu is not None and config.mtu < 68:
            raise ConfigError(f"MTU {config.mtu} is out of range [68, 65535]")
        return self._device(config)

    def vsock(self, config):
        try:
            os.close(os.open(config.uds_path, os.O_CREAT | os.O_EXCL))
        except OSError as error:
            number = errno.EADDRINUSE if error.errno == errno.EEXIST else error.errno
            text = os_error(OSError(number, os.strerror(number)))
            raise HostError(f"Error binding to the host-side Unix socket: {text}") from None
        return self._device(config)


class FakeCounters:
    """The counters of one made-up drive."""

    def __init__(self, **fields):
        self.fields = fields

    def __getattr__(self, name):
        if name.endswith("_agg"):
            return self.fields.get(name, Latency())
        return self.fields.get(name, 0)


class FakeMachine:
    """Notes what it is told; ``is_active`` says whether the guest's drivers are up."""

    def __init__(self, resources, on_stop):
        self.resources = resources
        self.on_stop = on_stop
        self.calls = []
        self.is_active = True
        self.keys_left = 2
        self.pause_error = None
        self.sources = [("block", "rootfs", FakeCounters(read_bytes=4096))]

    def _note(self, *call):
        self.calls.append(call)

    def _needs_driver(self, text):
        if not self.is_active:
            raise StateError(text)

    def pause(self):
        if self.pause_error is not None:
            raise self.pause_error
        self._note("pause")

    def resume(self):
        self._note("resume")

    def close(self):
        self._note("close")

    def create_snapshot(self, config, params):
        if os.path.basename(params.mem_file_path) == "full":
            raise HostError(f"Cannot write {params.mem_file_path}: No space left on device")
        self._note("snapshot", config["machine-config"]["vcpu_count"], params)

    def stop(self, ok=True, text="the guest reset the machine"):
        self.on_stop(StopReason(ok, text))

    def send_ctrl_alt_del(self):
        if not self.keys_left:
            raise StateError("I8042 error: i8042 buffer is full.")
        self.keys_left -= 1
        self._note("keys")

    def counters(self):
        return self.sources

    def update_drive_path(self, drive_id, path):
        if not os.path.exists(path):
            raise HostError(
                "Virtio backend error: Error manipulating the backing file: No such file or "
                f"directory (os error 2) {path}"
            )
        self._note("drive path", drive_id, path)

    def update_drive_limiter(self, drive_id, update):
        self._note("drive limiter", drive_id, update)

    def refresh_drive(self, drive_id):
        self._note("refresh drive", drive_id)

    def update_pmem_limiter(self, pmem_id, update):
        self._note("pmem limiter", pmem_id, update)

    def update_net_limiters(self, iface_id, rx, tx):
        self._note("net limiters", iface_id, rx, tx)

    def update_balloon(self, amount_mib):
        self._needs_driver("Device not activated yet.")
        self._note("balloon", amount_mib)

    def update_balloon_interval(self, seconds):
        self._note("balloon interval", seconds)

    def balloon_stats(self):
        return {"target_pages": 256, "actual_pages": 0, "target_mib": 1, "actual_mib": 0}

    def start_balloon_hinting(self, acknowledge_on_stop):
        self._note("hinting", acknowledge_on_stop)

    def stop_balloon_hinting(self):
        self._note("no hinting")

    def balloon_hinting_status(self):
        return 2, None

    def update_memory_hotplug(self, requested_size_mib):
        self._needs_driver("Device is not active")
        self._note("hotplug", requested_size_mib)

    def memory_hotplug_sizes(self):
        return 0, 512


class FakeBuilder:
    """Builds fake machines; memory beyond 1 TiB is not to be had."""

    def __init__(self):
        self.machine = None
        self.is_active = True

    def __call__(self, resources, on_stop):
        if resources.machine_config.mem_size_mib > 1 << 20:
            raise HostError(
                "Invalid Memory Configuration: Cannot create mmap region: Out of memory (os error "
                "12)"
            )
        self.machine = FakeMachine(resources, on_stop)
        self.machine.is_active = self.is_active
        return self.machine

    def load(self, resources, params, on_stop):
        """A file that is empty is a snapshot, others are damaged."""
        try:
            size = os.path.getsize(params.snapshot_path)
        except OSError as error:
            raise HostError(
                f"Failed to get snapshot state from file: Failed to open snapshot file: "
                f"{os_error(error)}"
            ) from None
        if size:
            raise SnapshotError("Failed to get snapshot state from file: CRC64 validation failed")
        return self(resources, on_stop)
