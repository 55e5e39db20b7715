from struct import unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.devices.rate_limiter import RateLimiter, TokenBucket
from pyrovm.devices.virtio_pmem import VirtioPmem
from pyrovm.errors import HostError
from tests.fakes.driver import Driver

GPA = 512 << 30
FLUSH = b"\0\0\0\0"


class FakeBacking:
    read_only = False
    size = 4 << 20
    file_size = 3 << 20

    def __init__(self):
        self.flushes = 0
        self.fails = False
        self.is_closed = False

    def flush(self):
        self.flushes += 1
        if self.fails:
            raise HostError("disk on fire")

    def close(self):
        self.is_closed = True


def pmem(limiter=None):
    device = VirtioPmem("pmem0", FakeBacking(), limiter)
    device.place(GPA)
    return device


def request(driver, data=FLUSH, answer_size=4):
    readable = driver.alloc(len(data), data)
    writable = driver.alloc(answer_size, b"\xee" * answer_size)
    head = driver.queues[0].add([(readable, len(data))], [(writable, answer_size)])
    return head, writable


def answer(driver, gpa):
    return int.from_bytes(driver.memory.read(gpa, 4), "little")


def test_the_configuration_says_where_the_file_is():
    driver = Driver(pmem())
    assert unpack("<QQ", driver.config(16)) == (GPA, 4 << 20)
    assert driver.device.features == 1 << 32


def test_a_flush_is_performed_and_answered():
    driver = Driver(pmem())
    head, gpa = request(driver)
    driver.notify()
    assert driver.device.backing.flushes == 1
    assert driver.queues[0].take_used() == [(head, 4)]
    assert answer(driver, gpa) == 0
    assert driver.irqs == 1
    assert driver.device.counters.queue_event_count == 1


def test_flushes_that_wait_together_are_one_flush():
    driver = Driver(pmem())
    answers = [request(driver)[1] for _ in range(40)]
    driver.notify()
    assert driver.device.backing.flushes == 1
    assert [answer(driver, gpa) for gpa in answers] == [0] * 40
    assert driver.irqs == 1


def test_a_failed_flush_is_answered_with_minus_one_and_tried_again():
    driver = Driver(pmem())
    driver.device.backing.fails = True
    _, gpa = request(driver)
    driver.notify()
    assert answer(driver, gpa) == 0xFFFF_FFFF
    assert driver.device.counters.event_fails == 1
    driver.device.backing.fails = False
    _, gpa = request(driver)
    driver.notify()
    assert answer(driver, gpa) == 0


def test_an_unknown_request_is_answered_with_minus_one():
    driver = Driver(pmem())
    _, gpa = request(driver, b"\1\0\0\0")
    driver.notify()
    assert answer(driver, gpa) == 0xFFFF_FFFF
    assert driver.device.backing.flushes == 0


@pytest.mark.parametrize(("data", "answer_size"), [(b"\0", 4), (bytes(8), 4), (FLUSH, 3)])
def test_a_request_of_another_form_breaks_the_device(data, answer_size):
    driver = Driver(pmem())
    request(driver, data, answer_size)
    driver.notify()
    assert driver.status & 0x40
    assert driver.device.counters.event_fails == 1


def test_operations_are_limited_by_flushes_of_the_file():
    limiter = RateLimiter(ops=TokenBucket(1, 1000, now=lambda: 0))
    driver = Driver(pmem(limiter))
    request(driver)
    driver.notify()
    _, gpa = request(driver)
    driver.notify()
    assert driver.device.backing.flushes == 1
    assert driver.device.counters.rate_limiter_throttled_events == 1
    limiter.ops = None
    driver.loop.advance(0.1)
    assert driver.device.backing.flushes == 2
    assert answer(driver, gpa) == 0
    assert driver.device.counters.rate_limiter_event_count == 1


def test_a_flush_costs_the_bytes_of_the_file():
    limiter = RateLimiter(bandwidth=TokenBucket(4 << 20, 1000, now=lambda: 0))
    driver = Driver(pmem(limiter))
    request(driver)
    driver.notify()
    assert limiter.bandwidth.budget == 1 << 20


def test_a_bell_without_a_request_costs_nothing():
    limiter = RateLimiter(ops=TokenBucket(1, 1000, now=lambda: 0))
    driver = Driver(pmem(limiter))
    driver.notify()
    assert limiter.ops.budget == 1
    assert driver.device.backing.flushes == 0


def test_new_buckets_replace_only_what_is_named():
    ops = TokenBucket(1, 1)
    device = pmem(RateLimiter(ops=ops))
    device.update_limiter(RateLimiter(bandwidth=TokenBucket(5, 5)), bandwidth=True, ops=False)
    assert device.limiter.bandwidth.size == 5
    assert device.limiter.ops is ops


def test_a_reset_in_the_middle_of_waiting_forgets_it():
    driver = Driver(pmem(RateLimiter(ops=TokenBucket(1, 1000, now=lambda: 0))))
    for _ in range(2):
        request(driver)
        driver.notify()
    driver.write(0x70, 0)
    driver.loop.advance(10)
    assert driver.device.backing.flushes == 1


def test_a_request_that_waited_over_a_restore_is_served_by_the_kick():
    driver = Driver(pmem())
    _, gpa = request(driver)
    driver.transport.restore(driver.transport.state())
    driver.device.kick()
    assert answer(driver, gpa) == 0


def test_a_file_of_another_size_is_not_the_one_that_was_saved():
    device = pmem()
    saved = device.state()
    device.backing.size = 2 << 20
    with pytest.raises(ValueError, match="it is 2097152"):
        device.restore(saved)


def test_closing_closes_the_file():
    device = pmem()
    device.close()
    assert device.backing.is_closed


@given(st.integers(0, 1 << 45), st.integers(1, 1 << 30), st.integers(1, 1 << 30))
def test_state_survives_a_round_trip(gpa, size, refill_time):
    device = pmem(RateLimiter(ops=TokenBucket(size, refill_time)))
    device.place(gpa)
    other = pmem()
    other.restore(device.state())
    assert other.state() == device.state()
