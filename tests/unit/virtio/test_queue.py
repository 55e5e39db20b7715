"""The device's side of the split virtqueue, against a driver that keeps or breaks the rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.errors import GuestError
from pyrovm.memory.guest_memory import GuestMemory, GuestMemoryError, Region
from pyrovm.virtio.queue import Queue, QueueError, part
from tests.fakes.driver import BUFFERS, DriverQueue

SIZE = 16


def make(*, event_idx=False, size=SIZE, barrier=lambda: None):
    memory = GuestMemory([Region(0, memoryview(bytearray(4 << 20)))])
    driver = DriverQueue(memory, 0, size)
    queue = Queue(0, 256)
    queue.size, queue.ready = size, True
    queue.desc, queue.avail, queue.used = driver.desc, driver.avail, driver.used
    queue.activate(memory, event_idx, barrier)
    return memory, driver, queue


def test_a_chain_arrives_with_its_buffers_in_order():
    memory, driver, queue = make()
    memory.write(BUFFERS, b"hello ")
    memory.write(BUFFERS + 0x1000, b"world")
    head = driver.add([(BUFFERS, 6), (BUFFERS + 0x1000, 5)], [(BUFFERS + 0x2000, 8)])
    chain = queue.pop()
    assert chain.head == head
    assert (chain.readable_size, chain.writable_size) == (11, 8)
    assert chain.read(0, 100) == b"hello world"
    assert chain.read(4, 4) == b"o wo"
    assert chain.write(b"12345678901") == 8
    assert memory.read(BUFFERS + 0x2000, 8) == b"12345678"
    assert queue.pop() is None


def test_pushed_chains_appear_in_the_used_ring():
    _, driver, queue = make()
    heads = [driver.add([], [(BUFFERS, 4)]) for _ in range(3)]
    for written, _ in enumerate(heads):
        queue.push(queue.pop().head, written)
    assert driver.take_used() == list(zip(heads, range(3), strict=True))


def test_a_popped_chain_can_be_put_back():
    _, driver, queue = make()
    head = driver.add([(BUFFERS, 4)], [])
    assert queue.pop().head == head
    queue.undo_pop()
    assert queue.pop().head == head


def test_indices_wrap_around():
    _, driver, queue = make()
    for round_ in range(70_000):
        driver.add([(BUFFERS, 1)], [])
        queue.push(queue.pop().head, round_ & 0xFF)
        if round_ % 1000 == 999:
            assert len(driver.take_used()) == 1000 or round_ < 1000
    assert queue.next_avail == queue.next_used == 70_000 & 0xFFFF


@pytest.mark.parametrize(
    ("size", "desc", "avail", "used", "words"),
    [
        (0, 0, 0, 0, "power of two"),
        (3, 0, 0, 0, "power of two"),
        (512, 0, 0, 0, "power of two"),
        (16, 8, 0, 0, "descriptor table"),
        (16, 0, 1, 0, "available ring"),
        (16, 0, 0, 2, "used ring"),
    ],
)
def test_a_wrong_configuration_is_refused(size, desc, avail, used, words):
    memory = GuestMemory([Region(0, memoryview(bytearray(1 << 20)))])
    queue = Queue(0, 256)
    queue.size, queue.ready = size, True
    queue.desc, queue.avail, queue.used = desc, avail, used
    with pytest.raises(QueueError, match=words):
        queue.activate(memory, False, lambda: None)


def test_a_queue_that_is_not_ready_is_refused():
    memory = GuestMemory([Region(0, memoryview(bytearray(1 << 20)))])
    with pytest.raises(QueueError, match="not ready"):
        Queue(0, 256).activate(memory, False, lambda: None)


@pytest.mark.parametrize("ring", ["desc", "avail", "used"])
def test_rings_outside_memory_are_refused(ring):
    memory = GuestMemory([Region(0, memoryview(bytearray(1 << 20)))])
    queue = Queue(0, 256)
    queue.ready = True
    queue.desc, queue.avail, queue.used = 0, 0x2000, 0x4000
    setattr(queue, ring, (1 << 20) - 16)
    with pytest.raises(GuestMemoryError, match="not in memory"):
        queue.activate(memory, False, lambda: None)


def test_an_available_index_that_jumps_is_refused():
    _, driver, queue = make()
    driver.set_avail_index(SIZE + 1)
    with pytest.raises(QueueError, match="jumped 17"):
        queue.pop()
    with pytest.raises(QueueError, match="jumped 17"):
        _ = queue.pending


def test_a_head_outside_the_table_is_refused():
    _, driver, queue = make()
    driver.publish(SIZE)
    with pytest.raises(QueueError, match="outside a table of 16"):
        queue.pop()


def test_a_next_outside_the_table_is_refused():
    _, driver, queue = make()
    driver.put_descriptor(0, BUFFERS, 4, 1, 40_000)
    driver.publish(0)
    with pytest.raises(QueueError, match="descriptor 40000"):
        queue.pop()


def test_a_loop_of_descriptors_is_refused():
    _, driver, queue = make()
    driver.put_descriptor(0, BUFFERS, 4, 1, 1)
    driver.put_descriptor(1, BUFFERS, 4, 1, 0)
    driver.publish(0)
    with pytest.raises(QueueError, match="longer than 16"):
        queue.pop()


def test_a_chain_as_long_as_the_queue_is_fine():
    _, driver, queue = make()
    driver.add([(BUFFERS, 1)] * SIZE, [])
    assert len(queue.pop().readable) == SIZE


def test_a_readable_descriptor_after_a_writable_one_is_refused():
    _, driver, queue = make()
    driver.put_descriptor(0, BUFFERS, 4, 3, 1)
    driver.put_descriptor(1, BUFFERS, 4, 0, 0)
    driver.publish(0)
    with pytest.raises(QueueError, match="readable after a writable"):
        queue.pop()


def test_an_indirect_descriptor_is_refused_since_it_was_not_offered():
    _, driver, queue = make()
    driver.put_descriptor(0, BUFFERS, 16, 4, 0)
    driver.publish(0)
    with pytest.raises(QueueError, match="indirect"):
        queue.pop()


@pytest.mark.parametrize(
    ("gpa", "length"),
    [(4 << 20, 1), ((4 << 20) - 4, 5), ((1 << 64) - 4, 8), (0, 0xFFFF_FFFF), (1 << 63, 1)],
)
def test_a_buffer_outside_memory_is_refused(gpa, length):
    _, driver, queue = make()
    driver.add([], [(gpa, length)])
    with pytest.raises(GuestMemoryError):
        queue.pop()


def test_an_empty_buffer_is_an_empty_view():
    _, driver, queue = make()
    driver.add([(BUFFERS, 0)], [(BUFFERS, 0)])
    chain = queue.pop()
    assert chain.read(0, 10) == b""
    assert chain.write(b"abc") == 0


def test_without_event_idx_the_driver_may_refuse_interrupts():
    _, driver, queue = make()
    driver.add([], [(BUFFERS, 4)])
    queue.push(queue.pop().head, 0)
    driver.set_no_interrupt(True)
    assert not queue.needs_signal()
    driver.add([], [(BUFFERS, 4)])
    queue.push(queue.pop().head, 0)
    driver.set_no_interrupt(False)
    assert queue.needs_signal()
    assert not queue.needs_signal(), "nothing new was pushed"


@pytest.mark.parametrize(("used_event", "wanted"), [(0, True), (1, True), (2, False), (9, False)])
def test_with_event_idx_the_driver_names_the_index_it_waits_for(used_event, wanted):
    _, driver, queue = make(event_idx=True)
    driver.set_used_event(used_event)
    for _ in range(2):
        driver.add([], [(BUFFERS, 4)])
        queue.push(queue.pop().head, 0)
    assert queue.needs_signal() is wanted


def test_event_idx_works_across_the_wrap():
    _, driver, queue = make(event_idx=True)
    for _ in range(0xFFFF):
        driver.add([], [(BUFFERS, 4)])
        queue.push(queue.pop().head, 0)
    queue.needs_signal()
    driver.set_used_event(0xFFFF)
    for _ in range(2):
        driver.add([], [(BUFFERS, 4)])
        queue.push(queue.pop().head, 0)
    assert queue.needs_signal()


def test_notifications_are_suppressed_while_the_device_looks():
    _, driver, queue = make()
    queue.disable_notifications()
    assert driver.no_notify
    assert queue.enable_notifications() is False
    assert not driver.no_notify
    queue.disable_notifications()
    driver.add([], [(BUFFERS, 4)])
    assert queue.enable_notifications() is True


def test_with_event_idx_the_device_names_the_index_it_waits_for():
    _, driver, queue = make(event_idx=True)
    driver.add([], [(BUFFERS, 4)])
    queue.pop()
    assert queue.enable_notifications() is False
    assert driver.avail_event == 1


def test_the_driver_can_be_asked_to_ring_for_the_next_chain_while_others_wait():
    _, driver, queue = make(event_idx=True)
    for _ in range(3):
        driver.add([], [(BUFFERS, 4)])
    queue.pop()
    queue.ask_for_next()
    assert driver.avail_event == 3
    _, driver, queue = make()
    queue.disable_notifications()
    queue.ask_for_next()
    assert not driver.no_notify


def test_the_barrier_stands_between_publishing_and_looking():
    seen = []
    _memory, driver, queue = make(event_idx=True, barrier=lambda: seen.append(driver.avail_event))
    driver.add([], [(BUFFERS, 4)])
    queue.pop()
    queue.enable_notifications()
    assert seen == [1], "the event index was published before the barrier"


def test_buffers_and_the_used_ring_are_marked_dirty_when_tracked():
    memory, driver, queue = make()
    driver.add([(BUFFERS, 4)], [(BUFFERS + 0x3000, 4)])
    memory.track_dirty(True)
    queue.push(queue.pop().head, 4)
    assert memory.take_dirty() == {(BUFFERS + 0x3000) >> 12, driver.used >> 12}


@pytest.mark.parametrize("event_idx", [False, True])
def test_what_suppresses_notifications_is_marked_dirty_too(event_idx):
    memory, driver, queue = make(event_idx=event_idx)
    memory.track_dirty(True)
    queue.disable_notifications()
    queue.enable_notifications()
    assert memory.take_dirty() == {driver.used >> 12}


def test_state_survives_a_round_trip():
    memory, driver, queue = make()
    driver.add([(BUFFERS, 4)], [])
    driver.add([(BUFFERS + 8, 4)], [])
    queue.push(queue.pop().head, 0)
    other = Queue(0, 256)
    other.restore(queue.state())
    assert other.state() == queue.state()
    other.activate(memory, False, lambda: None)
    assert other.pop().readable_size == 4
    assert other.pop() is None


@given(st.lists(st.binary(max_size=20), max_size=6), st.integers(0, 60), st.integers(0, 60))
def test_part_is_a_slice_of_the_whole(pieces, offset, size):
    views = [memoryview(p) for p in pieces]
    assert b"".join(part(views, offset, size)) == b"".join(pieces)[offset : offset + size]


descriptor = st.tuples(
    st.one_of(st.integers(0, (4 << 20) + 64), st.integers(0, (1 << 64) - 1)),
    st.one_of(st.integers(0, 8192), st.integers(0, (1 << 32) - 1)),
    st.integers(0, 15),
    st.integers(0, 20),
)


@given(st.lists(descriptor, min_size=1, max_size=SIZE), st.lists(st.integers(0, 20), max_size=20))
def test_random_descriptors_end_in_a_chain_or_a_guest_error(table, heads):
    _, driver, queue = make()
    for slot, entry in enumerate(table):
        driver.put_descriptor(slot, *entry)
    for head in heads:
        driver.publish(head)
    for _ in range(len(heads) + 1):
        try:
            chain = queue.pop()
        except GuestError:
            return
        if chain is None:
            return
        assert len(chain.readable) + len(chain.writable) <= SIZE
        assert chain.readable_size == sum(len(x) for x in chain.readable)
        assert chain.writable_size == sum(len(x) for x in chain.writable)
        queue.push(chain.head, 0)


def test_chains_given_back_together_appear_with_one_step_of_the_index():
    memory, driver, queue = make()
    heads = [driver.add([], [(BUFFERS, 4)]) for _ in range(3)]
    for _ in heads:
        queue.pop()
    queue.push_all([(heads[2], 9), (heads[0], 8), (heads[1], 7)])
    assert memory.read(driver.used + 2, 2) == b"\3\0"
    assert driver.take_used() == [(heads[2], 9), (heads[0], 8), (heads[1], 7)]
    assert queue.needs_signal()


def test_chains_given_back_together_wrap_around_the_ring():
    _, driver, queue = make()
    queue.continue_at(0xFFFE, 0xFFFE)
    driver.used_index = driver.avail_index = 0xFFFE
    heads = [driver.add([], [(BUFFERS, 4)]) for _ in range(4)]
    assert [queue.pop().head for _ in heads] == heads
    queue.push_all([(head, 1) for head in heads])
    assert queue.next_used == 2
    assert driver.take_used() == [(head, 1) for head in heads]


def test_a_queue_continues_where_another_server_stopped():
    _, driver, queue = make()
    for _ in range(5):
        driver.add([(BUFFERS, 4)], [])
    queue.continue_at(3, 3)
    assert queue.pending == 2
    assert not queue.needs_signal()


def test_a_chain_knows_where_its_writable_buffers_are():
    _, driver, queue = make()
    driver.add([(BUFFERS, 4)], [(BUFFERS + 0x1000, 8), (BUFFERS + 0x3000, 9)])
    assert queue.pop().writable_at == [BUFFERS + 0x1000, BUFFERS + 0x3000]
