"""Guests that break every rule of virtio: it costs them the device or the VM, never the VMM."""

import random

import pytest

from pyrovm import Balloon, Drive, MemoryHotplug, Pmem, Vsock
from pyrovm.abi import virtio as v
from tests.fakes.register_guest import (
    AVAIL,
    BUFFER,
    DESC,
    QUEUE_SIZE,
    USED,
    bring_up,
    descriptor,
    make_available,
    microvm,
    notify,
    say,
    store,
    wait,
    window,
)

pytestmark = pytest.mark.kvm

WRITE, NEXT, INDIRECT = 2, 1, 4
NEEDS_RESET, DRIVER_OK = v.VIRTIO_CONFIG_S_NEEDS_RESET, v.VIRTIO_CONFIG_S_DRIVER_OK
FAR = 0x7FFF_0000_0000
DISK, RNG = window(0), window(1)  # in attach order

BUFFER_OF_8 = descriptor(0, BUFFER, 8, WRITE)
BROKEN_RINGS = {
    "a loop of descriptors": descriptor(0, BUFFER, 8, NEXT | WRITE) + make_available(0),
    "4 GiB": descriptor(0, BUFFER, 0xFFFF_FFFF, WRITE) + make_available(0),
    "a buffer outside memory": descriptor(0, FAR, 8, WRITE) + make_available(0),
    "a buffer over the end": descriptor(0, (32 << 20) - 4, 8, WRITE) + make_available(0),
    "an indirect table": descriptor(0, BUFFER, 64, INDIRECT) + make_available(0),
    "a head outside the table": BUFFER_OF_8 + make_available(0xFFF0),
    "a next outside the table": descriptor(0, BUFFER, 8, NEXT, QUEUE_SIZE) + make_available(0),
    "an index that jumps": BUFFER_OF_8 + make_available(0, index=0x8000),
}


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(bytes(1 << 20))
    return path


@pytest.fixture
def run(tmp_path, disk):
    """``run(steps)``: a started microVM with a disk and an entropy device, or other devices."""
    made = []

    def run(*steps, **options):
        options = options or {"drives": [Drive(disk)], "entropy": True}
        vm = microvm(tmp_path, b"".join(steps), **options)
        made.append(vm)
        vm.start()
        return vm

    yield run
    for vm in made:
        vm.close()


def one_random_number():
    """A request that an entropy device answers, and waiting for it."""
    return BUFFER_OF_8 + make_available(0) + notify(RNG) + wait(USED, 0xFFFF_0000)


@pytest.mark.parametrize("name", BROKEN_RINGS)
def test_a_broken_ring_costs_its_device_until_it_is_reset_and_no_other(run, name):
    vm = run(
        *(bring_up(DISK), BROKEN_RINGS[name], notify(DISK)),
        *(wait(DISK + v.VIRTIO_MMIO_STATUS, NEEDS_RESET), say("broken.")),
        *(store(AVAIL, 0), bring_up(RNG), one_random_number(), say("other works.")),
        *(store(AVAIL, 0), bring_up(DISK)),
        *(wait(DISK + v.VIRTIO_MMIO_STATUS, DRIVER_OK), say("back.")),
    )
    assert vm.console.wait_for("back.") == "broken.other works.back."
    assert vm.log.count("device needs reset") == 1
    assert vm.info()["state"] == "Running"


@pytest.mark.parametrize("rings", [{"desc": FAR}, {"avail": FAR}, {"used": FAR}, {"size": 15}])
def test_rings_that_cannot_be_cost_the_device(run, rings):
    vm = run(
        *(bring_up(RNG, **rings), wait(RNG + v.VIRTIO_MMIO_STATUS, NEEDS_RESET)),
        *(bring_up(RNG), one_random_number(), say("works after all")),
    )
    vm.console.wait_for("works after all")
    assert "device needs reset" in vm.log


def test_garbage_in_all_registers_of_all_devices_is_survived(run, tmp_path, disk):
    devices = {
        "balloon": Balloon(stats_interval_s=1, free_page_hinting=True, free_page_reporting=True),
        "drives": [Drive(disk), Drive(disk, id="async", engine="Async", cache="Writeback")],
        "pmem": [Pmem(disk)],
        "vsock": Vsock(path=tmp_path / "vsock"),
        "entropy": True,
        "hotplug": MemoryHotplug(total_mib=128),
    }
    chance = random.Random(20261121)
    values = (0, 1, 3, 11, 15, 128, 0xFFFF_FFFF, DESC, AVAIL, USED)
    steps = []
    for slot in range(7):
        base = window(slot)
        steps.append(bring_up(base))
        for _ in range(150):
            value = chance.choice((*values, chance.getrandbits(32)))
            steps.append(store(base + chance.randrange(0, 0x120, 4), value))
        steps += [store(base + offset, chance.getrandbits(32)) for offset in range(0, 0x1000, 64)]
    vm = run(*steps, say("survived"), **devices)
    vm.console.wait_for("survived", 60)
    assert vm.info()["state"] == "Running"
    vm.pause()
    vm.resume()
    assert vm.metrics()["vcpu"]["failures"] == 0


def test_a_flood_of_notifications_stops_neither_the_api_nor_the_device(run):
    vm = run(
        *(bring_up(RNG), say("flood."), notify(RNG, count=30_000), notify(RNG, 7, count=3_000)),
        *(one_random_number(), say("still works")),
    )
    vm.console.wait_for("flood.")
    for _ in range(10):
        assert vm.info()["state"] == "Running"
    vm.console.wait_for("still works", 60)
    assert vm.metrics()["entropy"]["entropy_bytes"] == 8


def test_a_triple_fault_ends_the_vm_with_a_reason(tmp_path):
    with microvm(tmp_path, b"", code=bytes.fromhex("0f0b")) as vm:  # ud2, and no IDT
        vm.start()
        assert vm.wait(30) == 1
        assert "Firecracker exiting with error. exit_code=1" in vm.log
        assert "vCPU 0: " in vm.log
