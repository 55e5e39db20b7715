from struct import pack, unpack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrovm.devices.virtio_mem import BATCH_REQUESTS, VirtioMem
from pyrovm.devices.virtio_mem_blocks import Blocks
from pyrovm.errors import ConfigError, HostError, StateError
from tests.fakes.driver import Driver

MIB = 1 << 20
GPA = 512 << 30
PLUG, UNPLUG, UNPLUG_ALL, STATE = range(4)
ACK, NACK, BUSY, ERROR = range(4)
BLOCK, SLOT = 2 * MIB, 128 * MIB
PER_SLOT = 64


class FakeSlots:
    def __init__(self):
        self.present = set()
        self.discarded = []
        self.fails = set()

    def plug(self, index):
        if "plug" in self.fails or index in self.fails:
            raise HostError("KVM_SET_USER_MEMORY_REGION: no")
        assert index not in self.present
        self.present.add(index)

    def unplug(self, index):
        if "unplug" in self.fails:
            raise HostError("KVM_SET_USER_MEMORY_REGION: no")
        self.present.remove(index)

    def discard(self, offset, size):
        if "discard" in self.fails:
            raise HostError("madvise: no")
        self.discarded.append((offset, size))


def driven(total_mib=512, requested_mib=0, **sizes):
    device = VirtioMem(total_mib, **sizes)
    slots = FakeSlots()
    device.place(GPA, slots)
    driver = Driver(device)
    if requested_mib:
        device.request_size(requested_mib)
    return driver, slots


def request(driver, kind, block=0, count=1, gpa=None):
    data = pack("<H6xQH6x", kind, GPA + block * BLOCK if gpa is None else gpa, count)
    readable, writable = driver.alloc(24, data), driver.alloc(10)
    head = driver.queues[0].add([(readable, 24)], [(writable, 10)])
    return head, writable


def ask(driver, kind, block=0, count=1, gpa=None):
    """One request, performed: the type of its answer."""
    head, writable = request(driver, kind, block, count, gpa)
    driver.notify()
    assert driver.queues[0].take_used() == [(head, 10)]
    return unpack("<H6xH", driver.memory.read(writable, 10))[0]


def state(driver, block, count):
    _, writable = request(driver, STATE, block, count)
    driver.notify()
    driver.queues[0].take_used()
    return unpack("<H6xH", driver.memory.read(writable, 10))


def config(driver):
    names = ("block", "node", "addr", "region", "usable", "plugged", "requested")
    return dict(zip(names, unpack("<QH6xQQQQQ", driver.config(56)), strict=True))


# ---------------------------------------------------------- before any request


def test_everything_is_unplugged_at_first():
    driver, slots = driven()
    assert config(driver) == {
        "block": BLOCK,
        "node": 0,
        "addr": GPA,
        "region": 512 * MIB,
        "usable": 0,
        "plugged": 0,
        "requested": 0,
    }
    assert slots.present == set()


def test_a_driver_that_would_read_unplugged_memory_is_not_accepted():
    device = VirtioMem(128)
    assert device.features == 1 << 32 | 1 << 1
    device.place(GPA, FakeSlots())
    assert Driver(device, features=1 << 32).status == 3


# --------------------------------------------------------------- the request


def test_a_requested_size_is_announced_and_makes_whole_slots_usable():
    driver, _ = driven()
    driver.device.request_size(130)
    assert config(driver)["requested"] == 130 * MIB
    assert config(driver)["usable"] == 256 * MIB
    assert driver.read(0x60) == 2
    assert driver.device.requested_mib == 130


def test_the_usable_region_does_not_shrink_with_the_request():
    driver, _ = driven(requested_mib=512)
    driver.device.request_size(2)
    assert config(driver)["usable"] == 512 * MIB


@pytest.mark.parametrize("size_mib", [3, 514, 1 << 30])
def test_a_size_that_is_no_multiple_of_a_block_or_too_large_is_refused(size_mib):
    driver, _ = driven()
    text = f"Size {size_mib * MIB} is invalid: it must be a multiple of block size and less than"
    with pytest.raises(ConfigError, match=text):
        driver.device.request_size(size_mib)
    assert driver.device.requested_size == 0


def test_without_a_driver_nothing_can_be_requested():
    with pytest.raises(StateError, match=r"^Device is not active$"):
        VirtioMem(128).request_size(2)


# ----------------------------------------------------------------------- plug


def test_plugging_puts_the_slots_of_the_blocks_before_the_guest():
    driver, slots = driven(requested_mib=512)
    assert ask(driver, PLUG, PER_SLOT - 1, 2) == ACK
    assert slots.present == {0, 1}
    assert config(driver)["plugged"] == 2 * BLOCK
    assert ask(driver, PLUG, 0, 5) == ACK
    assert slots.present == {0, 1}
    counters = driver.device.counters
    assert counters.plug_count == 2
    assert counters.plug_bytes == 7 * BLOCK
    assert counters.plug_agg.count == 2
    assert driver.device.plugged_mib == 14


def test_plugging_needs_no_interrupt_for_the_configuration():
    driver, _ = driven(requested_mib=512)
    driver.write(0x64, 2)
    ask(driver, PLUG)
    assert driver.read(0x60) == 1


@pytest.mark.parametrize(
    ("block", "count"),
    [
        (0, 0),  # nothing
        (-1, 1),  # before the region
        (PER_SLOT - 1, 2),  # past the usable region
        (PER_SLOT, 1),
        (0, 33),  # more than requested
        (1, 1),  # plugged already
        (0, 3),
    ],
)
def test_plugging_against_the_rules_is_an_error_and_changes_nothing(block, count):
    driver, slots = driven(requested_mib=64)
    assert ask(driver, PLUG, 1, 1) == ACK
    assert ask(driver, PLUG, block, count) == ERROR
    assert config(driver)["plugged"] == BLOCK
    assert slots.present == {0}
    assert driver.device.counters.plug_fails == 1
    assert driver.status == 15


def test_an_address_inside_a_block_is_an_error():
    driver, _ = driven(requested_mib=64)
    for kind in (PLUG, UNPLUG, STATE):
        assert ask(driver, kind, gpa=GPA + 4096) == ERROR


def test_plugging_to_the_requested_size_and_no_further():
    driver, _ = driven(requested_mib=64)
    assert ask(driver, PLUG, 0, 32) == ACK
    assert ask(driver, PLUG, 32, 1) == ERROR


def test_when_the_host_has_no_memory_the_driver_is_asked_to_try_later():
    driver, slots = driven(requested_mib=512)
    slots.fails = {2}
    assert ask(driver, PLUG, PER_SLOT, 2 * PER_SLOT) == BUSY
    assert slots.present == set()
    assert config(driver)["plugged"] == 0
    slots.fails = set()
    assert ask(driver, PLUG, PER_SLOT, 2 * PER_SLOT) == ACK
    assert slots.present == {1, 2}


# --------------------------------------------------------------------- unplug


def test_unplugging_the_last_block_takes_the_slot_away():
    driver, slots = driven(requested_mib=512)
    ask(driver, PLUG, 0, PER_SLOT + 1)
    assert ask(driver, UNPLUG, 1, PER_SLOT - 1) == ACK
    assert slots.present == {0, 1}
    assert slots.discarded == [(BLOCK, (PER_SLOT - 1) * BLOCK)]
    assert ask(driver, UNPLUG, 0) == ACK
    assert slots.present == {1}
    assert config(driver)["plugged"] == BLOCK
    assert driver.device.counters.unplug_bytes == PER_SLOT * BLOCK
    assert driver.device.counters.unplug_count == 2


def test_unplugging_over_two_slots_discards_each_part():
    driver, slots = driven(requested_mib=512)
    ask(driver, PLUG, 0, 2 * PER_SLOT)
    assert ask(driver, UNPLUG, PER_SLOT - 1, 3) == ACK
    assert slots.discarded == [((PER_SLOT - 1) * BLOCK, BLOCK), (PER_SLOT * BLOCK, 2 * BLOCK)]


@pytest.mark.parametrize(("block", "count"), [(0, 0), (1, 1), (0, 2), (PER_SLOT, 1), (-1, 1)])
def test_unplugging_against_the_rules_is_an_error_and_changes_nothing(block, count):
    driver, slots = driven(requested_mib=64)
    ask(driver, PLUG, 0, 1)
    assert ask(driver, UNPLUG, block, count) == ERROR
    assert config(driver)["plugged"] == BLOCK
    assert slots.present == {0}
    assert driver.device.counters.unplug_fails == 1


def test_pages_that_cannot_be_discarded_are_counted_and_still_unplugged():
    driver, slots = driven(requested_mib=64)
    ask(driver, PLUG, 0, 2)
    slots.fails = {"discard", "unplug"}
    assert ask(driver, UNPLUG, 0) == ACK
    assert ask(driver, UNPLUG, 1) == ACK
    assert driver.device.counters.unplug_discard_fails == 2
    assert driver.device.present_slots == [0]
    slots.fails = set()
    assert ask(driver, PLUG, 0) == ACK
    assert ask(driver, UNPLUG, 0) == ACK
    assert slots.present == set()


def test_unplugging_all_shrinks_the_usable_region_to_the_request():
    driver, slots = driven(requested_mib=512)
    ask(driver, PLUG, 0, 4 * PER_SLOT)
    driver.device.request_size(2)
    assert ask(driver, UNPLUG_ALL) == ACK
    assert slots.present == set()
    assert config(driver)["plugged"] == 0
    assert config(driver)["usable"] == 128 * MIB
    assert driver.device.counters.unplug_all_count == 1
    assert driver.device.counters.unplug_bytes == 512 * MIB


# ---------------------------------------------------------------------- state


def test_the_state_of_blocks_is_plugged_unplugged_or_mixed():
    driver, _ = driven(requested_mib=512)
    ask(driver, PLUG, 4, 4)
    assert state(driver, 4, 4) == (ACK, 0)
    assert state(driver, 0, 4) == (ACK, 1)
    assert state(driver, 0, 5) == (ACK, 2)
    assert state(driver, 0, 4 * PER_SLOT + 1)[0] == ERROR
    assert driver.device.counters.state_count == 4
    assert driver.device.counters.state_fails == 1


# ------------------------------------------------------------ hostile drivers


def test_an_unknown_request_is_an_error():
    driver, _ = driven()
    assert ask(driver, 4) == ERROR
    assert ask(driver, 0xFFFF) == ERROR
    assert driver.device.counters.queue_event_fails == 2


@pytest.mark.parametrize(("size", "answer_size"), [(23, 10), (24, 9)])
def test_a_short_request_breaks_the_device(size, answer_size):
    driver, _ = driven()
    readable, writable = driver.alloc(size), driver.alloc(answer_size)
    driver.queues[0].add([(readable, size)], [(writable, answer_size)])
    driver.notify()
    assert driver.status & 0x40


def test_a_wake_up_answers_a_bounded_number_of_requests():
    driver, _ = driven(requested_mib=64)
    for _ in range(BATCH_REQUESTS + 3):
        request(driver, STATE)
    driver.notify()
    assert len(driver.queues[0].take_used()) == BATCH_REQUESTS
    driver.loop.advance(0)
    assert len(driver.queues[0].take_used()) == 3


def test_a_reset_in_the_middle_of_work_keeps_what_is_plugged():
    driver, slots = driven(requested_mib=64)
    ask(driver, PLUG, 0, 3)
    for _ in range(BATCH_REQUESTS):
        request(driver, STATE)
    request(driver, UNPLUG_ALL)
    driver.notify()
    driver.write(0x70, 0)
    driver.loop.advance(1)
    assert driver.device.plugged_mib == 6
    assert slots.present == {0}


requests = st.lists(
    st.tuples(st.integers(0, 5), st.integers(-1, 4 * PER_SLOT + 1), st.integers(0, 3 * PER_SLOT)),
    max_size=12,
)


@settings(max_examples=60)
@given(st.sampled_from([0, 2, 64, 130, 512]), requests)
def test_whatever_a_driver_asks_for_slots_follow_the_plugged_blocks(requested_mib, calls):
    driver, slots = driven(requested_mib=requested_mib)
    device = driver.device
    for kind, block, count in calls:
        ask(driver, kind, block, count)
        plugged = [s for s in range(4) if device.blocks.slot_is_used(s)]
        assert slots.present == set(plugged) == set(device.present_slots)
        assert device.blocks.plugged_size <= device.requested_size <= device.usable_size
        total = device.blocks.plugged(0, 4 * PER_SLOT) * BLOCK
        assert total == device.blocks.plugged_size == config(driver)["plugged"]
    other = VirtioMem(512)
    other.restore(device.state())
    assert other.state() == device.state()
    assert other.config() == device.config()


@pytest.mark.parametrize("ranges", [[[0, 65]], [[-1, 1]], [[0, 2], [1, 2]], [[0, 0]]])
def test_saved_ranges_that_cannot_be_are_refused(ranges):
    with pytest.raises(ValueError, match="blocks from"):
        Blocks(128 * MIB, BLOCK, SLOT).restore(ranges)


def test_a_request_that_waited_over_a_restore_is_served_by_the_kick():
    driver, slots = driven(requested_mib=64)
    head, _ = request(driver, PLUG, 0, 1)
    driver.transport.restore(driver.transport.state())
    driver.device.kick()
    assert driver.queues[0].take_used() == [(head, 10)]
    assert slots.present == {0}
