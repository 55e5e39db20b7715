from struct import pack, unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.devices.virtio_balloon import BATCH_PFNS, VirtioBalloon
from pyrovm.errors import ConfigError, HostError, StateError
from tests.fakes.driver import MEMORY_SIZE, Driver

MEMORY_PAGES = MEMORY_SIZE >> 12
EVERYTHING = {
    "deflate_on_oom": True,
    "stats_interval_s": 1,
    "free_page_hinting": True,
    "free_page_reporting": True,
}
VERSION_1 = 1 << 32


def balloon(amount_mib=0, **options):
    device = VirtioBalloon(amount_mib, **options)
    released = []
    device.release = lambda gpa, size: released.append((gpa, size))
    return device, released


def driven(amount_mib=0, features=None, **options):
    device, released = balloon(amount_mib, **options)
    return Driver(device, features=features), released


def send(driver, index, data):
    gpa = driver.alloc(len(data), data)
    head = driver.queues[index].add([(gpa, len(data))], [])
    driver.notify(index)
    return head


def pfns(*numbers):
    return pack(f"<{len(numbers)}I", *numbers)


def config(driver):
    return unpack("<III", driver.config(12))


# ------------------------------------------------------------------ features


def test_a_plain_balloon_has_two_queues_and_no_feature():
    device, _ = balloon()
    assert device.features == VERSION_1
    assert len(device.queue_sizes) == 2


def test_every_option_is_a_feature_and_all_but_oom_are_queues():
    device, _ = balloon(**EVERYTHING)
    assert device.features == VERSION_1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5
    assert len(device.queue_sizes) == 5


def test_the_target_is_in_the_configuration_space_in_pages():
    driver, _ = driven(3)
    assert config(driver) == (768, 0, 0)


def test_the_driver_may_write_actual_and_nothing_else():
    driver, _ = driven(3)
    driver.write(0x104, 500)
    driver.write(0x100, 7)
    driver.write(0x108, 7)
    driver.transport.write(0x105, 1, 3)
    assert config(driver) == (768, 500 & 0xFF | 0x300, 0)
    assert driver.device.actual_pages == 500 & 0xFF | 0x300


# ---------------------------------------------------------- inflate, deflate


def test_inflated_pages_are_released_merged_before_the_request_comes_back():
    driver, released = driven()
    order = []
    driver.device.release = lambda gpa, size: order.append(driver.queues[0].take_used())
    head = send(driver, 0, pfns(12, 10, 11))
    assert order == [[]]
    assert driver.queues[0].take_used() == [(head, 0)]
    driver.device.release = lambda gpa, size: released.append((gpa, size))
    send(driver, 0, pfns(20, 22))
    assert released == [(20 << 12, 4096), (22 << 12, 4096)]
    assert driver.irqs == 2
    assert driver.device.counters.inflate_count == 2


def test_requests_of_one_wake_up_are_merged_together():
    driver, released = driven()
    for start in (32, 0, 16):
        gpa = driver.alloc(64, pfns(*range(start, start + 16)))
        driver.queues[0].add([(gpa, 64)], [])
    driver.notify(0)
    assert released == [(0, 48 * 4096)]
    assert len(driver.queues[0].take_used()) == 3


def test_pages_outside_memory_are_counted_and_left_alone():
    driver, released = driven()
    head = send(driver, 0, pfns(MEMORY_PAGES - 1, MEMORY_PAGES, 0xFFFF_FFFF))
    assert released == [((MEMORY_PAGES - 1) << 12, 4096)]
    assert driver.queues[0].take_used() == [(head, 0)]
    assert driver.device.counters.event_fails == 1


def test_pages_that_the_host_keeps_are_counted():
    driver, _ = driven()

    def fails(_gpa, _size):
        raise HostError("madvise: no")

    driver.device.release = fails
    head = send(driver, 0, pfns(1, 3))
    assert driver.queues[0].take_used() == [(head, 0)]
    assert driver.device.counters.event_fails == 2


def test_a_wake_up_inflates_a_bounded_number_of_pages_and_goes_on_later():
    driver, released = driven()
    gpa = driver.alloc(1024, pfns(*range(256)))
    count = BATCH_PFNS // 256 + 2
    for _ in range(count):
        driver.queues[0].add([(gpa, 1024)], [])
    driver.notify(0)
    assert len(driver.queues[0].take_used()) == count - 2
    driver.loop.advance(0)
    assert len(driver.queues[0].take_used()) == 2
    assert len(released) == 2


def test_deflating_gives_the_request_back_and_touches_nothing():
    driver, released = driven()
    head = send(driver, 1, pfns(1, 2, 3))
    assert driver.queues[1].take_used() == [(head, 0)]
    assert released == []
    assert driver.device.counters.deflate_count == 1


@pytest.mark.parametrize("index", [0, 1])
def test_a_malformed_request_breaks_the_device(index):
    driver, released = driven()
    send(driver, index, b"\0\0\0")
    assert driver.status & 0x40
    assert released == []


# -------------------------------------------------------------------- target


def test_a_new_target_is_announced_to_the_driver():
    driver, _ = driven()
    driver.device.update_size(5)
    assert config(driver)[0] == 1280
    assert driver.read(0x60) == 2
    assert driver.device.amount_mib == 5


def test_a_target_above_the_guests_memory_is_refused():
    driver, _ = driven(1)
    for amount in (17, 1 << 24, (1 << 32) - 1):
        with pytest.raises(ConfigError, match="Requested memory should be less than 16Mi"):
            driver.device.update_size(amount)
    assert driver.device.num_pages == 256


def test_without_a_driver_there_is_no_new_target():
    device, _ = balloon()
    with pytest.raises(StateError, match="Device not activated yet"):
        device.update_size(0)


def test_a_target_that_would_wrap_is_refused():
    with pytest.raises(ConfigError):
        VirtioBalloon(1 << 24)


# ---------------------------------------------------------------- statistics


def stats(*entries):
    return b"".join(pack("<HQ", tag, value) for tag, value in entries)


ALL_NAMES = [
    "swap_in",
    "swap_out",
    "major_faults",
    "minor_faults",
    "free_memory",
    "total_memory",
    "available_memory",
    "disk_caches",
    "hugetlb_allocations",
    "hugetlb_failures",
    "oom_kill",
    "alloc_stall",
    "async_scan",
    "direct_scan",
    "async_reclaim",
    "direct_reclaim",
]


def test_every_statistic_has_its_name():
    driver, _ = driven(2, stats_interval_s=1)
    send(driver, 2, stats(*enumerate(range(100, 116))))
    driver.write(0x104, 300)
    found = driver.device.stats()
    assert [found[name] for name in ALL_NAMES] == list(range(100, 116))
    assert found["target_pages"] == 512
    assert found["actual_pages"] == 300
    assert found["target_mib"] == 2
    assert found["actual_mib"] == 1
    assert len(found) == 20


def test_without_a_report_only_the_sizes_are_known():
    driver, _ = driven(stats_interval_s=1)
    assert list(driver.device.stats()) == [
        "target_pages",
        "actual_pages",
        "target_mib",
        "actual_mib",
    ]


def test_values_do_not_wrap_and_unknown_tags_are_skipped():
    driver, _ = driven(stats_interval_s=1)
    send(driver, 2, stats((4, (1 << 64) - 1), (16, 1), (0xFFFF, 2)))
    found = driver.device.stats()
    assert found["free_memory"] == (1 << 64) - 1
    assert len(found) == 5


def test_the_buffer_is_kept_until_the_interval_is_over():
    driver, _ = driven(stats_interval_s=3)
    head = send(driver, 2, stats((0, 1)))
    assert driver.queues[2].take_used() == []
    driver.loop.advance(3)
    assert driver.queues[2].take_used() == [(head, 0)]
    again = send(driver, 2, stats((0, 2), (1, 7)))
    assert driver.device.stats()["swap_in"] == 2
    driver.loop.advance(3)
    assert driver.queues[2].take_used() == [(again, 0)]
    assert driver.device.counters.stats_updates_count == 2


def test_old_values_stay_where_a_report_is_silent():
    driver, _ = driven(stats_interval_s=1)
    send(driver, 2, stats((0, 1)))
    driver.loop.advance(1)
    send(driver, 2, stats((1, 2)))
    assert driver.device.stats()["swap_in"] == 1
    assert driver.device.stats()["swap_out"] == 2


def test_a_poll_without_a_buffer_is_counted_and_polling_goes_on():
    driver, _ = driven(stats_interval_s=1)
    driver.loop.advance(1)
    assert driver.device.counters.stats_update_fails == 1
    send(driver, 2, stats((0, 1)))
    driver.loop.advance(1)
    assert len(driver.queues[2].take_used()) == 1


def test_a_second_buffer_sends_the_first_one_back():
    driver, _ = driven(stats_interval_s=1)
    first = send(driver, 2, stats((0, 1)))
    send(driver, 2, stats((0, 2)))
    assert driver.queues[2].take_used() == [(first, 0)]


@pytest.mark.parametrize("size", [9, 2570])
def test_a_report_that_is_no_array_or_too_long_breaks_the_device(size):
    driver, _ = driven(stats_interval_s=1)
    send(driver, 2, bytes(size))
    assert driver.status & 0x40
    assert driver.device.counters.stats_update_fails == 1


def test_a_changed_interval_polls_at_once():
    driver, _ = driven(stats_interval_s=60)
    head = send(driver, 2, stats((0, 1)))
    driver.device.update_stats_interval(30)
    driver.loop.advance(0)
    assert driver.queues[2].take_used() == [(head, 0)]
    assert driver.device.stats_interval_s == 30


def test_statistics_are_neither_switched_on_nor_off_later():
    device, _ = balloon()
    device.update_stats_interval(0)
    with pytest.raises(StateError, match="cannot be enabled/disabled after activation"):
        device.update_stats_interval(1)
    with pytest.raises(StateError, match="Received stats query when stats are disabled"):
        device.stats()
    device, _ = balloon(stats_interval_s=1)
    with pytest.raises(StateError, match="cannot be enabled/disabled after activation"):
        device.update_stats_interval(0)


# ------------------------------------------------------------------- hinting


def hint(driver, index, gpa, size):
    head = driver.queues[index].add([], [(gpa, size)])
    driver.notify(index)
    return head


def command(driver, number, index=2):
    send(driver, index, number.to_bytes(4, "little"))


def test_pages_of_the_current_run_are_released():
    driver, released = driven(free_page_hinting=True)
    assert driver.device.hinting_status() == {"host_cmd": 0, "guest_cmd": None}
    driver.device.start_hinting()
    assert config(driver)[2] == 2
    assert driver.read(0x60) == 2
    command(driver, 2)
    assert driver.device.hinting_status() == {"host_cmd": 2, "guest_cmd": 2}
    hint(driver, 2, 0x400000, 0x100000)
    assert released == [(0x400000, 0x100000)]
    assert driver.device.counters.free_page_hint_count == 1
    assert driver.device.counters.free_page_hint_freed == 0x100000
    assert len(driver.queues[2].take_used()) == 2


def test_pages_of_a_run_that_is_over_are_not_released():
    driver, released = driven(free_page_hinting=True)
    hint(driver, 2, 0x400000, 0x1000)
    driver.device.start_hinting()
    hint(driver, 2, 0x400000, 0x1000)
    command(driver, 2)
    driver.device.stop_hinting()
    hint(driver, 2, 0x400000, 0x1000)
    driver.device.start_hinting()
    hint(driver, 2, 0x400000, 0x1000)
    assert released == []
    assert len(driver.queues[2].take_used()) == 5


def test_the_end_of_a_run_is_acknowledged_when_that_was_asked_for():
    driver, _ = driven(free_page_hinting=True)
    driver.device.start_hinting(acknowledge_on_stop=True)
    command(driver, 2)
    command(driver, 0)
    assert driver.device.hinting_status() == {"host_cmd": 1, "guest_cmd": 0}
    assert config(driver)[2] == 1
    driver.device.start_hinting(acknowledge_on_stop=False)
    command(driver, 3)
    command(driver, 0)
    assert driver.device.hinting_status() == {"host_cmd": 3, "guest_cmd": 0}


def test_the_end_of_an_earlier_run_does_not_end_the_current_one():
    driver, _ = driven(free_page_hinting=True)
    driver.device.start_hinting()
    command(driver, 2)
    driver.device.start_hinting()
    command(driver, 0)
    assert driver.device.hinting_status()["host_cmd"] == 3


def test_command_numbers_wrap_past_stop_and_done():
    driver, _ = driven(free_page_hinting=True)
    saved = driver.device.state()
    saved["hinting"]["last_cmd"] = 0xFFFF_FFFE
    driver.device.restore(saved)
    driver.device.start_hinting()
    assert driver.device.hinting_status()["host_cmd"] == 0xFFFF_FFFF
    driver.device.start_hinting()
    assert driver.device.hinting_status()["host_cmd"] == 2


def test_hinting_that_is_off_cannot_be_used():
    driver, _ = driven()
    for call in (
        driver.device.start_hinting,
        driver.device.stop_hinting,
        driver.device.hinting_status,
    ):
        with pytest.raises(StateError, match="Attempting to use hinting when not enabled"):
            call()


def test_hinting_needs_a_driver():
    device, _ = balloon(free_page_hinting=True)
    with pytest.raises(StateError, match="Device not activated yet"):
        device.start_hinting()


def test_a_command_of_another_size_breaks_the_device():
    driver, _ = driven(free_page_hinting=True)
    send(driver, 2, bytes(8))
    assert driver.status & 0x40
    assert driver.device.counters.free_page_hint_fails == 1


# ----------------------------------------------------------------- reporting


def test_reported_pages_are_released_whole_pages_only():
    driver, released = driven(free_page_reporting=True)
    head = driver.queues[2].add([], [(0x400000, 0x200000), (0x700100, 0x3000), (0x600000, 0xFFF)])
    driver.notify(2)
    assert released == [(0x400000, 0x200000), (0x701000, 0x2000)]
    assert driver.queues[2].take_used() == [(head, 0)]
    assert driver.device.counters.free_page_report_count == 3
    assert driver.device.counters.free_page_report_freed == 0x202000


def test_reported_pages_that_the_host_keeps_are_counted():
    driver, _ = driven(free_page_reporting=True)

    def fails(_gpa, _size):
        raise HostError("madvise: no")

    driver.device.release = fails
    hint(driver, 2, 0x400000, 0x1000)
    assert driver.device.counters.free_page_report_fails == 1
    assert driver.device.counters.free_page_report_freed == 0


def test_a_report_outside_memory_breaks_the_device():
    driver, released = driven(free_page_reporting=True)
    hint(driver, 2, MEMORY_SIZE - 4096, 8192)
    assert driver.status & 0x40
    assert released == []


def test_queues_move_up_when_the_driver_leaves_a_feature_out():
    driver, released = driven(features=VERSION_1 | 1 << 5, **EVERYTHING)
    hint(driver, 2, 0x400000, 0x1000)
    assert released == [(0x400000, 0x1000)]
    hint(driver, 3, 0x500000, 0x1000)
    assert released == [(0x400000, 0x1000)]


# ---------------------------------------------------------------- life cycle


def test_a_reset_in_the_middle_of_work_forgets_it():
    driver, _ = driven(**EVERYTHING)
    send(driver, 2, stats((0, 1)))
    gpa = driver.alloc(1024, pfns(*range(256)))
    for _ in range(BATCH_PFNS // 256 + 1):
        driver.queues[0].add([(gpa, 1024)], [])
    driver.notify(0)
    driver.write(0x70, 0)
    driver.loop.advance(10)
    assert driver.device.active is None
    assert all(timer.deadline is None for timer in driver.loop.timers)


def test_a_restored_balloon_goes_on():
    driver, _ = driven(1, **EVERYTHING)
    head = send(driver, 2, stats((0, 5)))
    driver.device.start_hinting()
    command(driver, 2, 3)
    saved = driver.transport.state()
    driver.transport.restore(saved)
    driver.device.kick()
    assert driver.device.stats()["swap_in"] == 5
    driver.loop.advance(1)
    assert driver.queues[2].take_used() == [(head, 0)]
    assert config(driver)[2] == 2


def test_a_state_with_statistics_does_not_fit_a_balloon_without():
    device, _ = balloon(stats_interval_s=1)
    other, _ = balloon()
    with pytest.raises(ValueError, match="statistics"):
        other.restore(device.state())


@given(
    st.integers(0, 16),
    st.integers(0, 0xFFFF_FFFF),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, (1 << 64) - 1)), max_size=20),
    st.lists(st.sampled_from(["start", "stop", "0", "2", "3"]), max_size=6),
)
def test_state_survives_a_round_trip(amount, actual, entries, commands):
    driver, _ = driven(amount, **EVERYTHING)
    driver.write(0x104, actual)
    send(driver, 2, stats(*entries))
    for word in commands:
        if word == "start":
            driver.device.start_hinting()
        elif word == "stop":
            driver.device.stop_hinting()
        else:
            command(driver, int(word), 3)
    other, _ = balloon(**EVERYTHING)
    other.restore(driver.device.state())
    assert other.state() == driver.device.state()


@given(st.integers(0, 4), st.lists(st.binary(max_size=64), max_size=4), st.integers(0, 1 << 25))
def test_whatever_a_driver_sends_only_memory_is_released(index, requests, gpa):
    driver, released = driven(**EVERYTHING)
    driver.device.start_hinting()
    for data in requests:
        if data:
            send(driver, index, data)
        else:
            hint(driver, index, gpa, 0x3000)
    driver.loop.advance(1)
    assert all(start >= 0 and start + size <= MEMORY_SIZE for start, size in released)
