"""Snapshots of Linux guests: saved, killed, restored elsewhere, with all their devices."""

import pytest

WORKS = {
    "net": 0,
    "disk": "was here\nagain",
    "pmem": "from the host",
    "vsock": "anybody?",
    "rng": "32",
    "memory": "unharmed",
    "balloon": True,
    "counts on": "0",
}


@pytest.mark.parametrize("kernel", ["cloud", "lean"])
def test_a_linux_guest_with_everything_goes_on_elsewhere(scenario, request, kernel):
    found = scenario("snapshots", assets=request.getfixturevalue(f"{kernel}_assets"), timeout=580)
    reseeds = kernel == "lean"  # Debian's kernel does not know of VM generation ids
    # the source
    assert found["plugged"]
    assert found["before"] == WORKS
    assert found["source goes on"] == ["after the first", "source"]
    assert found["diff is smaller"]
    assert found["latencies"] == [True, True]
    assert found["connection of the source"]
    assert found["rebase"] == 0
    # restored from files
    assert found["clock without help"]
    assert found["step"] == "after the first"
    assert found["after"] == WORKS
    assert found["mmds"] == "second"
    assert found["tap"] == "tap1"
    assert found["hotplug kept"] == 128
    assert found["hotplug grows"]
    assert found["hotplug shrinks"]
    assert found["complaints"] == []
    assert found["vmgenid"] == str(int(reseeds))
    assert found["reset"] == 0
    assert found["restored diff is small"]
    # restored by a handler
    assert found["clock with help"]
    assert found["served"] == WORKS
    assert found["complaints of the served"] == []
    assert found["without a handler"]
    assert found["says why"]
    # clones
    assert found["clones draw other numbers"] or not reseeds
    assert found["without its file"] == (
        "Load snapshot error: Failed to restore from snapshot: Failed to build microVM from "
        "snapshot: Cannot create pmem device: Error accessing backing file: No such file or "
        "directory (os error 2)"
    )


def test_huge_pages_and_vhost_are_no_hindrance(scenario, cloud_assets):
    found = scenario("snapshot_kinds", assets=cloud_assets, timeout=580)
    assert found == {
        # reserved huge pages
        "from a file": (
            "Load snapshot error: Failed to restore from snapshot: Failed to load guest memory: "
            "Cannot restore hugetlbfs backed snapshot by mapping the memory file. Please use uffd."
        ),
        "as ordinary pages": "here\nunharmed",
        "ordinary": True,
        "by a handler": "here\nunharmed",
        "huge": True,
        "complaints of the served": [],
        # transparent ones
        "transparent": "here\nunharmed",
        "kept": "Transparent",
        # saved where the kernel served network and vsock, restored where we do
        "saved": 0,
        "source goes on": 0,
        "status": 0,
        "without vhost": "here\nunharmed",
        "net": 0,
        "vsock": "hello",
        "complaints": [],
    }


def test_a_vmm_whose_handler_dies_ends_whoever_waits_for_a_page(scenario, cloud_assets):
    # The kernel itself may wait: for a page on behalf of KVM (asynchronous page faults).
    found = scenario("snapshot_handler", assets=cloud_assets, timeout=400)
    assert found == {"ended": 3, "said why": 3}
