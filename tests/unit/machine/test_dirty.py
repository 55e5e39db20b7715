"""Which pages have changed: what the guest wrote and what we did, until a snapshot has them."""

from pyrovm.machine.dirty import DirtyPages
from pyrovm.machine.ram import Ram
from tests.unit.machine.fake_vm import FakeVm

PAGE = 4096


def machine(*ranges):
    vm = FakeVm()
    ram = Ram(vm, track_dirty_pages=True)
    ram.fill(ranges, lambda _at, size: ram.map_new(size), huge_pages="None")
    return vm, ram, DirtyPages(vm, ram)


def found(dirty, ram):
    return [dirty.ranges(slot) for slot in ram.saved_slots()]


def test_writes_of_guest_and_devices_are_gathered_by_slot():
    vm, ram, dirty = machine((0, 128 * PAGE), (1 << 32, 64 * PAGE))
    vm.guest_writes(0, 0, 1, 64, 127)
    vm.guest_writes(1, 63)
    ram.memory.write(5 * PAGE - 1, b"ab")
    ram.memory.write(1 << 32, b"a")
    dirty.collect()
    assert found(dirty, ram) == [
        [(0, 2 * PAGE), (4 * PAGE, 6 * PAGE), (64 * PAGE, 65 * PAGE), (127 * PAGE, 128 * PAGE)],
        [(0, PAGE), (63 * PAGE, 64 * PAGE)],
    ]
    ram.close()


def test_what_was_collected_is_kept_until_it_is_in_a_file():
    vm, ram, dirty = machine((0, 128 * PAGE))
    vm.guest_writes(0, 3)
    dirty.collect()
    vm.guest_writes(0, 4)
    dirty.collect()
    assert found(dirty, ram) == [[(3 * PAGE, 5 * PAGE)]]
    dirty.forget()
    dirty.collect()
    assert found(dirty, ram) == [[]]
    ram.close()


def test_slots_come_and_go_and_what_is_no_part_of_snapshots_does_not_count():
    vm, ram, dirty = machine((0, 128 * PAGE))
    plugged = ram.add(1 << 40, ram.map_new(64 * PAGE), saved_at=128 * PAGE)
    ram.add(1 << 41, ram.map_new(64 * PAGE))
    vm.guest_writes(1, 7)
    ram.memory.write(1 << 41, b"a")
    dirty.collect()
    assert found(dirty, ram) == [[], [(7 * PAGE, 8 * PAGE)]]
    ram.remove(plugged)
    dirty.collect()
    ram.add(1 << 40, ram.map_new(64 * PAGE), saved_at=128 * PAGE)
    dirty.collect()
    assert found(dirty, ram) == [[], []], "another slot, though at the same place"
    ram.close()
