"""Memory that comes and goes under Linux: balloon, hotplug, pmem, huge pages; and entropy."""

STATISTICS = {  # what every kernel tells; some add those of hugetlbfs
    *("target_pages", "actual_pages", "target_mib", "actual_mib"),
    *("swap_in", "swap_out", "major_faults", "minor_faults", "free_memory", "total_memory"),
    *("available_memory", "disk_caches"),
}
TOO_LARGE = "Balloon update error: Balloon: Requested memory should be less than 256MiB"


def invalid_size(size):
    return (
        "Memory hotplug update error: Failed to create memory hotplug device: "
        f"Size {size} is invalid: it must be a multiple of block size and less than the total size"
    )


def test_memory_of_a_linux_guest(scenario, guest_assets):
    found = scenario("memory", assets=guest_assets)
    assert found["balloon before start"] == (
        "The requested operation is not supported before starting the microVM."
    )
    assert found["rng"] == "virtio_rng.0"
    assert found["random bytes"] == "64"
    assert found["entropy bytes"]

    # balloon
    assert found["inflated"]
    assert found["given back"]
    assert set(found["statistics"]) >= STATISTICS
    assert found["statistics fit"]
    assert found["deflated"]
    assert found["refusals"] == [
        TOO_LARGE,
        TOO_LARGE,
        "Balloon update error: Balloon: Statistics cannot be enabled/disabled after activation.",
    ]
    assert found["balloon metrics"] == [True, True]
    assert found["free pages reported"]
    assert found["balloon while dirty pages are tracked"] == 16
    assert found["no statistics"] == (
        "Internal VMM error: Balloon: Received stats query when stats are disabled."
    )
    assert found["no hints yet"] == {"host_cmd": 0, "guest_cmd": None}
    assert found["hints given"]
    assert found["hint metrics"] == [True, 0]
    assert found["machine config"]["track_dirty_pages"]

    # hotplug
    assert found["hotplug at first"] == {
        "total_size_mib": 256,
        "block_size_mib": 2,
        "slot_size_mib": 128,
        "plugged_size_mib": 0,
        "requested_size_mib": 0,
    }
    assert found["plugged"]
    assert found["hotplug full"] == 256
    assert found["unplugged"]
    assert found["after"] == 0
    assert found["odd size"] == invalid_size(3 << 20)
    assert found["too much"] == invalid_size(512 << 20)

    # persistent memory
    assert found["pmem read"] == found["ro read"] == "from the host"
    assert found["pmem flushes"]
    assert found["in the file"]
    assert found["read-only file unchanged"]

    assert found["huge pages"]
    assert found["complaints"] == []
    assert found["reserved pages"]
    assert "Cannot create mmap region: Out of memory" in found["too few"]
    assert (found["status"], found["status 2"], found["status 3"]) == (0, 0, 0)
