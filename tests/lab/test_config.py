"""Every way to configure a microVM gives a Linux guest the same machine."""

import re

BOOT_TIME = re.compile(r"Guest-boot-time = \d+ us \d+ ms, +\d+ CPU us \d+ CPU ms")
DRIVERS = [
    *("virtio_balloon", "virtio_blk", "virtio_blk", "virtio_net", "virtio_pmem"),
    *("vmw_vsock_virtio_transport", "virtio_rng", "virtio_mem"),
]
CMDLINE = "console=ttyS0 reboot=k panic=-1 quiet pci=off " + " ".join(
    f"virtio_mmio.device=4K@{0xC0001000 + 0x1000 * n:#x}:{5 + n}" for n in range(len(DRIVERS))
)
GROUPS = {
    *("api_server", "balloon", "block", "block_one", "block_two", "deprecated_api", "entropy"),
    *("get_api_requests", "i8042", "interrupts", "latencies_us", "logger", "memory_hotplug"),
    *("mmds", "net", "net_eth0", "patch_api_requests", "pmem", "pmem_pmem0", "put_api_requests"),
    *("seccomp", "signals", "uart", "vcpu", "vmm", "vsock"),
}
# Debian's kernel takes CPUs and virtio devices from ACPI alone, the lean one from the MP table and
# the command line, too.  CPUs, virtio devices:
WITHOUT_ACPI = {"cloud": ["1", "0"], "lean": ["2", "7"]}
LAST_WORDS = [
    "Running Firecracker v1.17.0-dev",
    "Kernel loaded using PVH boot protocol",
    "Successfully started microvm that was configured from one single json",
    "the guest reset the machine",
    "Vmm is stopping.",
    "Firecracker exiting successfully. exit_code=0",
]


def drive(name, path, **changes):
    return {
        "drive_id": name,
        "path_on_host": path,
        "is_root_device": False,
        "is_read_only": False,
        "partuuid": None,
        "cache_type": "Unsafe",
        "io_engine": "Sync",
        "rate_limiter": None,
        "socket": None,
        **changes,
    }


def bucket(size, refill_time, burst=None):
    return {"size": size, "refill_time": refill_time, "one_time_burst": burst}


CONFIG = {
    "boot-source": {
        "kernel_image_path": "/job/assets/vmlinux",
        "initrd_path": "/job/assets/initramfs",
        "boot_args": "console=ttyS0 reboot=k panic=-1 quiet",
    },
    "machine-config": {
        "vcpu_count": 2,
        "mem_size_mib": 256,
        "smt": True,
        "track_dirty_pages": False,
        "huge_pages": "None",
    },
    "drives": [
        drive("one", "/job/assets/disk.ext4", is_read_only=True),
        drive(
            "two",
            "/tmp/extra",
            cache_type="Writeback",
            io_engine="Async",
            rate_limiter={"bandwidth": None, "ops": bucket(1000, 100, 5)},
        ),
    ],
    "network-interfaces": [
        {
            "iface_id": "eth0",
            "host_dev_name": "tap0",
            "guest_mac": "06:00:00:00:00:01",
            "mtu": 1400,
            "rx_rate_limiter": None,
            "tx_rate_limiter": {"bandwidth": bucket(1 << 20, 100), "ops": None},
        }
    ],
    "pmem": [
        {
            "id": "pmem0",
            "path_on_host": "/tmp/pmem",
            "root_device": False,
            "read_only": False,
            "rate_limiter": None,
        }
    ],
    "vsock": {"guest_cid": 7, "uds_path": "/tmp/v.sock"},
    "balloon": {
        "amount_mib": 8,
        "deflate_on_oom": True,
        "stats_polling_interval_s": 2,
        "free_page_hinting": True,
        "free_page_reporting": False,
    },
    "memory-hotplug": {"total_size_mib": 256, "block_size_mib": 4, "slot_size_mib": 128},
    "entropy": {"rate_limiter": None},
    "mmds-config": {
        "version": "V2",
        "network_interfaces": ["eth0"],
        "ipv4_address": "169.254.169.254",
        "imds_compat": False,
    },
    "cpu-config": None,
    "logger": None,
    "metrics": None,
}


def test_everything_at_once_by_api_and_by_file(scenario, guest_assets, request):
    found = scenario("config", assets=guest_assets)

    # by the API
    assert BOOT_TIME.fullmatch(found["boot timer"])
    assert found["cmdline"] == CMDLINE
    assert found["topology"] == "0-1\n2"
    assert found["drivers"] == DRIVERS
    assert found["config"] == CONFIG
    assert set(found["metrics"]) - {"utc_timestamp_ms"} == GROUPS
    assert found["complaints"] == []
    assert found["status"] == 0

    # by a file made of what the first one said of itself
    assert found["config again"] == CONFIG
    assert found["cmdline again"] == CMDLINE
    assert found["state"] == "Running"
    assert found["mmds"] == {"word": "from a file"}
    assert found["word"] == "from a file"
    assert found["status again"] == 0

    # without an API, and without ACPI in the guest
    kernel = request.node.callspec.params["guest_assets"]
    assert found["no api"][:2] == WITHOUT_ACPI[kernel]
    assert "acpi" not in found["no api"][2:]
    assert found["no api status"] == 0
    assert not found["no api socket"]
    assert found["no api log"] == LAST_WORDS
