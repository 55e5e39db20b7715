from hypothesis import given
from hypothesis import strategies as st

from pyrovm.devices.rate_limiter import RateLimiter, TokenBucket
from pyrovm.devices.virtio_rng import MAX_BATCH, MAX_REQUEST, VirtioRng
from pyrovm.errors import HostError
from tests.fakes.driver import Driver


def pattern(count):
    return b"\xab" * count


def ask(driver, size, at=None):
    gpa = driver.alloc(size) if at is None else at
    return driver.queues[0].add([], [(gpa, size)]), gpa


def test_a_request_is_filled_with_random_bytes():
    driver = Driver(VirtioRng(pattern))
    assert driver.status == 15
    head, gpa = ask(driver, 64)
    driver.notify()
    assert driver.queues[0].take_used() == [(head, 64)]
    assert driver.memory.read(gpa, 64) == pattern(64)
    assert driver.irqs == 1
    assert driver.device.counters.entropy_bytes == 64
    assert driver.device.counters.entropy_event_count == 1


def test_no_feature_but_version_1_is_offered():
    assert VirtioRng(pattern).features == 1 << 32


def test_a_request_is_filled_up_to_64_kib():
    driver = Driver(VirtioRng(pattern))
    head, gpa = ask(driver, MAX_REQUEST + 4096)
    driver.notify()
    assert driver.queues[0].take_used() == [(head, MAX_REQUEST)]
    assert driver.memory.read(gpa + MAX_REQUEST, 4096) == bytes(4096)


def test_a_scattered_request_is_filled_in_order():
    driver = Driver(VirtioRng(lambda count: bytes(range(count))))
    one, two = driver.alloc(5), driver.alloc(9)
    driver.queues[0].add([], [(one, 5), (two, 9)])
    driver.notify()
    assert driver.memory.read(one, 5) + driver.memory.read(two, 9) == bytes(range(14))


def test_when_the_host_has_no_randomness_the_buffer_comes_back_empty():
    def fails(_count):
        raise HostError("getrandom: no")

    driver = Driver(VirtioRng(fails))
    head, _ = ask(driver, 64)
    driver.notify()
    assert driver.queues[0].take_used() == [(head, 0)]
    assert driver.device.counters.host_rng_fails == 1
    assert driver.device.counters.entropy_bytes == 0


def test_a_chain_without_writable_bytes_comes_back_empty():
    driver = Driver(VirtioRng(pattern))
    head = driver.queues[0].add([(driver.alloc(8), 8)], [])
    driver.notify()
    assert driver.queues[0].take_used() == [(head, 0)]


def test_a_chain_outside_memory_breaks_the_device():
    driver = Driver(VirtioRng(pattern))
    driver.queues[0].add([], [(1 << 40, 8)])
    driver.notify()
    assert driver.status & 0x40


def test_a_refused_request_waits_for_the_limiter():
    limiter = RateLimiter(bandwidth=TokenBucket(100, 100, now=lambda: 0))
    driver = Driver(VirtioRng(pattern, limiter))
    first, _ = ask(driver, 80)
    second, _ = ask(driver, 80)
    driver.notify()
    assert driver.queues[0].take_used() == [(first, 80)]
    assert driver.device.counters.entropy_rate_limiter_throttled == 1
    driver.notify()
    assert driver.queues[0].take_used() == []
    limiter.bandwidth = None
    driver.loop.advance(0.1)
    assert driver.queues[0].take_used() == [(second, 80)]
    assert driver.device.counters.rate_limiter_event_count == 1


def test_operations_are_limited_too():
    driver = Driver(VirtioRng(pattern, RateLimiter(ops=TokenBucket(2, 1000, now=lambda: 0))))
    for _ in range(3):
        ask(driver, 8)
    driver.notify()
    assert len(driver.queues[0].take_used()) == 2


def test_a_wake_up_is_bounded_and_continues_in_the_next_round():
    driver = Driver(VirtioRng(pattern))
    count = 2 * MAX_BATCH // MAX_REQUEST
    gpa = driver.alloc(MAX_REQUEST)
    for _ in range(count):
        ask(driver, MAX_REQUEST, gpa)
    driver.notify()
    assert len(driver.queues[0].take_used()) == count // 2
    driver.loop.advance(0)
    assert len(driver.queues[0].take_used()) == count // 2


def test_a_reset_forgets_what_waited():
    limiter = RateLimiter(ops=TokenBucket(1, 1000, now=lambda: 0))
    driver = Driver(VirtioRng(pattern, limiter))
    ask(driver, 8)
    ask(driver, 8)
    driver.notify()
    driver.write(0x70, 0)
    driver.loop.advance(10)
    assert driver.device.active is None
    assert not limiter.is_blocked


def test_requests_that_waited_over_a_restore_are_served_by_the_kick():
    driver = Driver(VirtioRng(pattern))
    head, gpa = ask(driver, 16)
    saved = driver.transport.state()
    driver.transport.restore(saved)
    driver.device.kick()
    assert driver.queues[0].take_used() == [(head, 16)]
    assert driver.memory.read(gpa, 16) == pattern(16)


@given(
    st.integers(1, 1 << 40),
    st.integers(1, 1 << 20),
    st.integers(0, 1 << 20),
    st.lists(st.integers(0, 1 << 16), max_size=8),
)
def test_state_survives_a_round_trip(size, refill_time, burst, requests):
    limiter = RateLimiter(bandwidth=TokenBucket(size, refill_time, burst, now=lambda: 0))
    for tokens in requests:
        limiter.consume(tokens)
    device = VirtioRng(pattern, limiter)
    other = VirtioRng(pattern)
    other.restore(device.state())
    assert other.state() == device.state()
