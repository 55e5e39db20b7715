"""The block device against a driver: what it answers, when it waits, what it leaves alone."""

from struct import pack, unpack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrovm.abi import virtio as v
from pyrovm.devices.rate_limiter import RateLimiter, TokenBucket
from pyrovm.devices.virtio_block import BATCH_REQUESTS, VirtioBlock
from tests.fakes.driver import Driver

OK, IOERR, UNSUPP = v.VIRTIO_BLK_S_OK, v.VIRTIO_BLK_S_IOERR, v.VIRTIO_BLK_S_UNSUPP
IN, OUT, FLUSH, GET_ID = (
    v.VIRTIO_BLK_T_IN,
    v.VIRTIO_BLK_T_OUT,
    v.VIRTIO_BLK_T_FLUSH,
    v.VIRTIO_BLK_T_GET_ID,
)
DISK_SIZE = 64 * 512
COMPLETION_FD = 77
EIO = 5


class FakeEngine:
    """A disk in memory.  ``later`` completes requests when the test says so."""

    is_own = False

    def __init__(self, size=DISK_SIZE, *, later=False, room=128):
        self.size = size
        self.bytes = bytearray(size)
        self.disk_id = b"123"
        self.completion_fd = COMPLETION_FD if later else -1
        self.later = later
        self.room = room
        self.submitted = []
        self.ready = []
        self.starts = self.flushes = 0
        self.closed = False
        self.fail_with = 0

    @property
    def has_room(self):
        return len(self.submitted) < self.room

    def submit(self, request):
        if not self.later:
            return self.perform(request)
        self.submitted.append(request)
        return None

    def perform(self, request):
        if self.fail_with:
            return -self.fail_with
        at = request.offset
        for view in request.data:
            end = at + len(view)
            if request.kind == IN:
                view[:] = self.bytes[at:end]
            else:
                self.bytes[at:end] = view
            at = end
        self.flushes += request.kind == FLUSH
        return at - request.offset

    def start(self):
        self.starts += 1

    def finish(self, *which):
        """Let these submitted requests complete, in this order."""
        picked = [self.submitted[i] for i in which]
        for request in picked:
            self.submitted.remove(request)
            self.ready.append((request, self.perform(request)))

    def completed(self):
        ready, self.ready = self.ready, []
        return ready

    def drain(self):
        self.finish(*range(len(self.submitted)))
        return self.completed()

    def close(self):
        self.closed = True


class Disk:
    """A driver of a block device, and the requests it can make."""

    def __init__(self, engine=None, *, features=None, bring_up=True, **options):
        self.engine = engine or FakeEngine()
        self.device = VirtioBlock("rootfs", self.engine, **options)
        self.driver = Driver(self.device, features=features, bring_up=bring_up)
        self.queue = self.driver.queues[0]
        self.counters = self.device.counters

    def ask(self, kind, sector=0, *, write=b"", read=0):
        """Make a request available; its (head, gpa of the data, gpa of the status)."""
        driver = self.driver
        head_at = driver.alloc(16, pack("<IIQ", kind, 0, sector))
        data_at = driver.alloc(max(len(write), read, 1), write)
        status_at = driver.alloc(1, b"\xff")
        readable = [(head_at, 16)] + ([(data_at, len(write))] if write else [])
        writable = ([(data_at, read)] if read else []) + [(status_at, 1)]
        return self.queue.add(readable, writable), data_at, status_at

    def status(self, request):
        return self.driver.memory.read(request[2], 1)[0]

    def do(self, kind, sector=0, **data):
        """A request on its own; (status, used length, the bytes read)."""
        request = self.ask(kind, sector, **data)
        self.driver.notify()
        ((head, written),) = self.queue.take_used()
        assert head == request[0]
        return (
            self.status(request),
            written,
            self.driver.memory.read(request[1], data.get("read", 0)),
        )


def limiter(*, ops=0, size=0, refill_ms=100):
    return RateLimiter(
        bandwidth=TokenBucket(size, refill_ms, now=lambda: 0) if size else None,
        ops=TokenBucket(ops, refill_ms, now=lambda: 0) if ops else None,
    )


def test_the_features_are_those_of_the_configuration():
    base = 1 << v.VIRTIO_F_VERSION_1 | 1 << v.VIRTIO_RING_F_EVENT_IDX | 1 << v.VIRTIO_BLK_F_SEG_MAX
    assert Disk().device.features == base
    assert Disk(read_only=True).device.features == base | 1 << v.VIRTIO_BLK_F_RO
    assert Disk(cache_type="Writeback").device.features == base | 1 << v.VIRTIO_BLK_F_FLUSH


def test_a_request_of_as_many_segments_as_are_offered_fits_twice_into_the_queue():
    disk = Disk()
    _capacity, _size_max, segments = unpack("<QII", disk.driver.config(16))
    assert segments > 1
    assert 2 * (segments + 2) <= 256


def test_the_capacity_counts_whole_sectors():
    assert Disk(FakeEngine(5 * 512 + 511)).driver.config(8) == pack("<Q", 5)


def test_what_is_written_can_be_read_again():
    disk = Disk()
    assert disk.do(OUT, 2, write=b"w" * 1024) == (OK, 1, b"")
    assert disk.engine.bytes[1024:2048] == b"w" * 1024
    assert disk.do(IN, 3, read=1024) == (OK, 1025, b"w" * 512 + bytes(512))
    counters = disk.counters
    assert (counters.read_count, counters.read_bytes, counters.read_agg.count) == (1, 1024, 1)
    assert (counters.write_count, counters.write_bytes, counters.write_agg.count) == (1, 1024, 1)
    assert counters.queue_event_count == 2
    assert counters.invalid_reqs_count == 0


def test_the_id_is_padded_to_20_bytes():
    assert Disk().do(GET_ID, read=20) == (OK, 21, b"123" + bytes(17))


@pytest.mark.parametrize(("cache_type", "flushes"), [("Unsafe", 0), ("Writeback", 1)])
def test_flush_succeeds_and_is_performed_only_with_writeback(cache_type, flushes):
    disk = Disk(cache_type=cache_type)
    assert disk.do(FLUSH) == (OK, 1, b"")
    assert disk.engine.flushes == flushes
    assert disk.counters.flush_count == 1


def test_bad_requests_are_answered_and_counted():
    disk = Disk()
    assert disk.do(IN, 64, read=512)[:2] == (IOERR, 1)
    assert disk.do(99, 0, read=512)[:2] == (UNSUPP, 1)
    disk.engine.fail_with = EIO
    assert disk.do(IN, 0, read=512)[:2] == (IOERR, 1)
    assert disk.counters.invalid_reqs_count == 3
    assert disk.counters.read_count == 0
    assert disk.driver.status == 15


def test_a_transfer_that_ends_early_is_an_error():
    disk = Disk()
    disk.engine.perform = lambda _request: 100
    assert disk.do(IN, 0, read=512)[:2] == (IOERR, 1)


def test_a_chain_without_room_for_the_status_breaks_the_device():
    disk = Disk()
    disk.queue.add([(disk.driver.alloc(16, bytes(16)), 16)], [])
    disk.driver.notify()
    assert disk.driver.status & v.VIRTIO_CONFIG_S_NEEDS_RESET
    assert disk.counters.execute_fails == 1


def test_a_batch_is_answered_with_one_interrupt():
    disk = Disk(features=1 << v.VIRTIO_F_VERSION_1)
    for sector in range(10):
        disk.ask(IN, sector, read=512)
    disk.driver.notify()
    assert len(disk.queue.take_used()) == 10
    assert disk.driver.irqs == 1
    assert disk.engine.starts == 1
    assert not disk.queue.no_notify
    assert disk.counters.remaining_reqs_count == sum(range(10))


def test_with_event_idx_only_the_awaited_answer_interrupts():
    disk = Disk()
    disk.queue.set_used_event(2)
    for expected in (0, 0, 1, 1):
        disk.do(FLUSH)
        assert disk.driver.irqs == expected
    assert disk.queue.avail_event == 4


def test_a_notification_without_a_request_is_counted():
    disk = Disk()
    disk.driver.notify()
    assert disk.counters.no_avail_buffer == 1


def test_one_wake_up_serves_a_bounded_number_of_requests():
    disk = Disk()
    for _ in range(BATCH_REQUESTS + 5):
        disk.ask(FLUSH)
    disk.driver.notify()
    assert len(disk.queue.take_used()) == BATCH_REQUESTS
    disk.driver.loop.advance(0)
    assert len(disk.queue.take_used()) == 5


def test_one_wake_up_serves_a_bounded_number_of_bytes(monkeypatch):
    monkeypatch.setattr("pyrovm.devices.virtio_block.BATCH_BYTES", 1024)
    disk = Disk()
    for _ in range(5):
        disk.ask(IN, 0, read=512)
    disk.driver.notify()
    assert len(disk.queue.take_used()) == 3
    disk.driver.loop.advance(0)
    assert len(disk.queue.take_used()) == 2


# --------------------------------------------------------------- rate limiting


def test_requests_past_the_ops_limit_wait_for_the_timer():
    disk = Disk(limiter=limiter(ops=2))
    for _ in range(3):
        disk.ask(FLUSH)
    disk.driver.notify()
    assert len(disk.queue.take_used()) == 2
    assert disk.counters.rate_limiter_throttled_events == 1
    disk.driver.notify()  # while blocked nothing is looked at
    assert disk.queue.take_used() == []
    assert disk.counters.rate_limiter_throttled_events == 2
    disk.device.limiter.ops.budget = 2
    disk.driver.loop.advance(0.1)
    assert len(disk.queue.take_used()) == 1
    assert disk.counters.rate_limiter_event_count == 1


def test_only_data_counts_for_the_bandwidth_limit():
    disk = Disk(limiter=limiter(size=1024))
    assert disk.do(FLUSH)[0] == OK
    assert disk.do(GET_ID, read=512)[0] == OK
    assert disk.do(IN, 0, read=1024)[0] == OK
    waiting = disk.ask(OUT, 0, write=bytes(512))
    disk.driver.notify()
    assert disk.queue.take_used() == []
    disk.device.limiter.bandwidth.budget = 1024
    disk.driver.loop.advance(0.1)
    assert [head for head, _ in disk.queue.take_used()] == [waiting[0]]


def test_new_limits_are_installed_full():
    disk = Disk(limiter=limiter(ops=1))
    disk.do(FLUSH)
    disk.device.update_limiter(limiter(ops=5), bandwidth=True, ops=True)
    assert disk.device.limiter.ops.budget == 5
    assert disk.counters.update_count == 1


# ---------------------------------------------------------- late completions


def late(**options):
    return Disk(FakeEngine(later=True, room=options.pop("room", 128)), **options)


def test_requests_may_complete_in_another_order():
    disk = late()
    disk.engine.bytes[512:1024] = b"b" * 512
    first, second = disk.ask(IN, 0, read=512), disk.ask(IN, 1, read=512)
    disk.driver.notify()
    assert disk.queue.take_used() == []
    disk.engine.finish(1)
    disk.driver.loop.fire(COMPLETION_FD)
    assert disk.queue.take_used() == [(second[0], 513)]
    assert disk.driver.memory.read(second[1], 512) == b"b" * 512
    assert disk.status(first) == 0xFF
    disk.engine.finish(0)
    disk.driver.loop.fire(COMPLETION_FD)
    assert disk.queue.take_used() == [(first[0], 513)]


def test_a_full_engine_holds_the_queue_until_something_completes():
    disk = late(room=2)
    for _ in range(3):
        disk.ask(IN, 0, read=512)
    disk.driver.notify()
    assert len(disk.engine.submitted) == 2
    assert disk.counters.io_engine_throttled_events == 1
    disk.driver.notify()
    assert disk.counters.io_engine_throttled_events == 2
    disk.engine.finish(0)
    disk.driver.loop.fire(COMPLETION_FD)
    assert len(disk.engine.submitted) == 2
    assert len(disk.queue.take_used()) == 1


def test_a_full_engine_costs_no_tokens():
    disk = late(room=1, limiter=limiter(ops=10))
    disk.ask(FLUSH)
    disk.ask(FLUSH)
    disk.engine.submitted.append(object())
    disk.driver.notify()
    assert disk.device.limiter.ops.budget == 10


def test_a_pause_finishes_what_is_in_flight_and_a_kick_goes_on():
    disk = late(room=2)
    for _ in range(3):
        disk.ask(IN, 0, read=512)
    disk.driver.notify()
    disk.device.pause()
    assert disk.engine.submitted == []
    assert len(disk.queue.take_used()) == 2
    disk.device.kick()
    assert len(disk.engine.submitted) == 1


def test_a_reset_waits_for_the_engine_and_answers_nobody():
    disk = late()
    disk.ask(IN, 0, read=512)
    disk.driver.notify()
    disk.driver.write(v.VIRTIO_MMIO_STATUS, 0)
    assert disk.engine.submitted == []
    assert disk.queue.take_used() == []
    assert COMPLETION_FD not in disk.driver.loop.watched
    assert not any(timer.armed for timer in disk.driver.loop.timers)


def test_memory_filled_late_is_marked_dirty_again():
    disk = late()
    disk.driver.memory.track_dirty(True)
    request = disk.ask(IN, 0, read=512)
    disk.driver.notify()
    disk.driver.memory.take_dirty()
    disk.engine.finish(0)
    disk.driver.loop.fire(COMPLETION_FD)
    assert {request[1] >> 12, request[2] >> 12} <= disk.driver.memory.take_dirty()


# ---------------------------------------------------------------- live updates


@pytest.mark.parametrize("later", [False, True])
def test_another_disk_takes_over_and_the_driver_learns_its_size(later):
    disk = Disk(FakeEngine(later=later))
    old, new = disk.engine, FakeEngine(10 * 512, later=later)
    disk.ask(FLUSH)
    disk.driver.notify()
    generation = disk.driver.read(v.VIRTIO_MMIO_CONFIG_GENERATION)
    disk.device.update_engine(new)
    assert old.closed
    assert len(disk.queue.take_used()) == 1
    assert disk.driver.config(8) == pack("<Q", 10)
    assert disk.driver.read(v.VIRTIO_MMIO_CONFIG_GENERATION) != generation
    assert disk.driver.read(v.VIRTIO_MMIO_INTERRUPT_STATUS) & v.VIRTIO_MMIO_INT_CONFIG
    assert disk.counters.update_count == 1
    disk.ask(IN, 10, read=512)
    disk.driver.notify()
    assert disk.counters.invalid_reqs_count == 1


def test_another_disk_before_activation_only_changes_the_capacity():
    disk = Disk(bring_up=False)
    disk.device.update_engine(FakeEngine(512))
    assert disk.engine.closed
    assert disk.device.config()[:8] == pack("<Q", 1)
    assert disk.driver.irqs == 0


# ----------------------------------------------------------------- save, close


def test_close_closes_the_engine():
    disk = Disk()
    disk.device.close()
    assert disk.engine.closed


@given(
    ops=st.integers(1, 1000),
    size=st.integers(1, 10**9),
    spent=st.integers(0, 500),
    two=st.booleans(),
)
def test_the_state_of_a_restored_device_is_the_saved_one(ops, size, spent, two):
    saved = Disk(
        limiter=RateLimiter(TokenBucket(size, 100) if two else None, TokenBucket(ops, 50, 7))
    )
    saved.device.limiter.consume(spent, 1)
    state = saved.driver.transport.state()
    other = Disk(bring_up=False)
    other.driver.transport.restore(state)
    assert other.driver.transport.state() == state
    assert other.driver.status == 15


def test_a_request_made_before_the_save_is_served_after_the_restore():
    saved = Disk(limiter=limiter(ops=1))
    saved.do(FLUSH)
    waiting = saved.ask(OUT, 1, write=b"z" * 512)
    saved.driver.notify()
    state = saved.driver.transport.state()
    other = Disk(bring_up=False)
    other.driver.memory.write(0, saved.driver.ram)
    state["device"]["limiter"]["ops"]["budget"] = 1
    other.driver.transport.restore(state)
    other.device.kick()
    assert other.engine.bytes[512:1024] == b"z" * 512
    assert other.status(waiting) == OK


# --------------------------------------------------------------------- hostile


descriptors = st.lists(
    st.tuples(
        st.integers(0x200000, 0x210000) | st.integers(0, 2**64 - 1),
        st.sampled_from([0, 1, 16, 20, 512, 513, 4096]) | st.integers(0, 2**32 - 1),
        st.integers(0, 7),
        st.integers(0, 9),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=150)
@given(descriptors, st.binary(min_size=16, max_size=16), st.lists(st.integers(0, 9), max_size=8))
def test_any_chains_are_answered_or_break_the_device(table, first_bytes, heads):
    disk = Disk()
    memory, queue = disk.driver.memory, disk.queue
    for at in range(0x200000, 0x210000, 0x1000):
        memory.write(at, first_bytes)
    for slot, descriptor in enumerate(table):
        queue.put_descriptor(slot, *descriptor)
    for head in heads:
        queue.publish(head)
    disk.driver.notify()
    if disk.device.active is not None:
        assert [head for head, _ in queue.take_used()] == heads
    assert len(disk.engine.bytes) == DISK_SIZE
