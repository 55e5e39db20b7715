"""The network device against a driver and a tap in memory."""

from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrovm.abi import virtio as v
from pyrovm.devices.rate_limiter import RateLimiter, TokenBucket
from pyrovm.devices.virtio_net import BATCH_FRAMES
from tests.fakes.net import (
    EVENT_IDX,
    MAC,
    MERGEABLE,
    TAP_FD,
    TSO,
    VERSION_1,
    FakeMmds,
    Net,
    frame,
    limiter,
)

# ---------------------------------------------------------------- configuration


def test_the_features_are_those_of_the_configuration():
    bits = [0, 1, 7, 8, 10, 11, 12, 14, 15, 29, 32]
    base = sum(1 << bit for bit in bits)
    assert Net().device.features == base
    assert Net(mac=MAC).device.features == base | 1 << v.VIRTIO_NET_F_MAC
    assert Net(mtu=1400).device.features == base | 1 << v.VIRTIO_NET_F_MTU


def test_the_configuration_space_has_the_mac_and_the_mtu():
    assert Net(mac=MAC, mtu=1400).driver.config(12) == MAC + bytes(4) + pack("<H", 1400)
    assert Net().driver.config(12) == bytes(12)


def test_the_tap_gets_the_offloads_that_the_driver_took():
    assert Net(features=TSO).tap.offload == TSO


# -------------------------------------------------------------------- receiving


@pytest.mark.parametrize("features", [VERSION_1, MERGEABLE, None])
def test_a_frame_arrives_in_one_buffer_behind_its_header(features):
    net = Net(features=features)
    net.post(65562, count=2)
    net.arrive(frame(100))
    assert net.received() == [(bytes(10) + b"\1\0", frame(100))]
    assert net.driver.irqs == 1
    assert (net.counters.rx_packets_count, net.counters.rx_bytes_count) == (1, 112)
    assert net.counters.rx_tap_event_count == 1


def test_a_frame_spreads_over_several_mergeable_buffers():
    net = Net(features=MERGEABLE)
    net.post(1024, count=80, pieces=3)
    frames = [frame(5000, fill=1), frame(60, fill=2), frame(1012, fill=3), frame(1013, fill=4)]
    net.arrive(*frames)
    received = net.received()
    assert [data for _, data in received] == frames
    assert [header[10] for header, _ in received] == [5, 1, 1, 2]


def test_the_count_of_buffers_is_written_even_across_descriptors():
    net = Net(features=MERGEABLE)
    for _ in range(70):
        gpa = net.driver.alloc(1024)
        net.buffers[net.rx.add([], [(gpa, 11), (gpa + 11, 1013)])] = gpa
    net.arrive(frame(1500))
    assert net.received() == [(bytes(10) + b"\2\0", frame(1500))]


def test_all_buffers_of_a_frame_appear_at_once():
    net = Net(features=MERGEABLE)
    net.post(1024, count=80)
    seen = []
    queue = net.device.active.queues[0]
    push_all = queue.push_all
    queue.push_all = lambda used: (push_all(used), seen.append(len(net.rx.take_used())))
    net.arrive(frame(4000))
    assert seen == [4]


def test_a_batch_of_frames_is_one_interrupt():
    net = Net(features=VERSION_1)
    net.post(2048, count=10)
    net.arrive(*[frame()] * 10)
    assert len(net.received()) == 10
    assert net.driver.irqs == 1


def test_one_wake_up_receives_a_bounded_number_of_frames():
    net = Net(features=VERSION_1)
    net.post(2048, count=BATCH_FRAMES + 1)
    net.arrive(*[frame()] * (BATCH_FRAMES + 1))
    assert len(net.received()) == BATCH_FRAMES
    assert net.watches_tap  # still readable: the loop calls again
    net.driver.loop.fire(TAP_FD)
    assert len(net.received()) == 1


@pytest.mark.parametrize("features", [VERSION_1, MERGEABLE, None])
def test_without_buffers_the_tap_is_muted_until_the_driver_posts_some(features):
    net = Net(features=features)
    net.arrive(frame())
    assert not net.watches_tap
    assert net.tap.reads == 0
    assert net.counters.no_rx_avail_buffer == 1
    net.post(65562)
    net.driver.notify(0)
    assert len(net.received()) == 1
    net.arrive(frame())
    assert not net.watches_tap


def test_when_buffers_run_out_the_driver_is_asked_to_notify_of_the_next():
    net = Net(features=MERGEABLE | EVENT_IDX)
    net.post(1024, count=5)
    net.arrive(frame())
    assert net.tap.reads == 0  # 65562 bytes might come
    assert net.rx.avail_event == 5
    net.post(65562)
    net.driver.notify(0)
    assert len(net.received()) == 1


def test_a_driver_that_cannot_post_enough_gets_what_fits():
    net = Net(features=MERGEABLE, bring_up=False)
    net.rx.size = 4
    net.driver.bring_up(MERGEABLE)
    net.post(1024, count=4)
    net.arrive(frame(3000))
    assert [len(data) for _, data in net.received()] == [3000]


@pytest.mark.parametrize(
    ("features", "size", "accepted"),
    [
        (VERSION_1, 1525, False),
        (VERSION_1, 1526, True),
        (TSO, 65561, False),
        (TSO, 65562, True),
        (VERSION_1 | 1 << v.VIRTIO_NET_F_GUEST_UFO, 65561, False),
        (MERGEABLE, 11, False),
    ],
)
def test_buffers_that_are_too_small_are_given_back_empty(features, size, accepted):
    net = Net(features=features)
    net.post(size)
    net.arrive(frame())
    ((_, written),) = net.rx.take_used()
    assert bool(written) is accepted
    assert net.counters.rx_fails == (not accepted)


def test_buffers_with_something_to_read_are_given_back_empty():
    net = Net(features=VERSION_1)
    gpa = net.driver.alloc(4096)
    head = net.rx.add([(gpa, 16)], [(gpa + 16, 2000)])
    net.arrive(frame())
    assert net.rx.take_used() == [(head, 0)]


def test_a_bad_buffer_among_good_ones_is_not_lost():
    net = Net(features=MERGEABLE)
    net.post(1024, count=3)
    bad = net.rx.add([], [(net.driver.alloc(4), 4)])
    net.post(65562)
    net.arrive(frame(60, fill=1), frame(60, fill=2), frame(60, fill=3), frame(60, fill=4))
    used = net.rx.take_used()
    assert sorted(head for head, _ in used) == sorted([*net.buffers, bad])
    assert (bad, 0) in used


def test_a_malformed_chain_breaks_the_device():
    net = Net(features=VERSION_1)
    net.rx.put_descriptor(0, 2**60, 4096, v.VRING_DESC_F_WRITE, 0)
    net.rx.publish(0)
    net.driver.notify(0)
    assert net.driver.status & v.VIRTIO_CONFIG_S_NEEDS_RESET


def test_a_lost_interface_is_read_again_later():
    net = Net(features=VERSION_1)
    net.post(count=2)
    net.tap.broken = True
    net.arrive(frame())
    assert not net.watches_tap
    assert (net.counters.tap_read_fails, net.counters.rx_fails) == (1, 1)
    net.tap.broken = False
    net.driver.loop.advance(1)
    assert len(net.received()) == 1
    assert net.watches_tap


# ---------------------------------------------------------------------- sending


@pytest.mark.parametrize("cuts", [(), (12,), (5, 30), (1, 2, 3, 13)])
def test_a_sent_frame_reaches_the_tap_with_its_header(cuts):
    net = Net(mac=MAC)
    header = bytes([1, 1]) + pack("<HHHHH", 54, 1400, 34, 16, 0)
    head = net.send(frame(200), header=header, cuts=cuts)
    net.driver.notify(1)
    assert net.tap.sent == [header + frame(200)]
    assert net.tx.take_used() == [(head, 0)]
    assert net.driver.irqs == 1
    counters = net.counters
    assert (counters.tx_packets_count, counters.tx_bytes_count, counters.tx_count) == (1, 212, 1)
    assert counters.tap_write_agg.count == 1
    assert counters.tx_spoofed_mac_count == 0


def test_a_batch_of_sent_frames_is_one_interrupt():
    net = Net(features=VERSION_1)
    for _ in range(10):
        net.send(frame())
    net.driver.notify(1)
    assert len(net.tap.sent) == 10
    assert net.driver.irqs == 1
    assert net.counters.tx_remaining_reqs_count == sum(range(10))


def test_one_wake_up_sends_a_bounded_number_of_frames():
    net = Net()
    for _ in range(BATCH_FRAMES + 3):
        net.send(frame())
    net.driver.notify(1)
    assert len(net.tap.sent) == BATCH_FRAMES
    net.driver.loop.advance(0)
    assert len(net.tap.sent) == BATCH_FRAMES + 3


def test_a_notification_without_a_frame_is_counted():
    net = Net()
    net.driver.notify(1)
    assert net.counters.no_tx_avail_buffer == 1


@pytest.mark.parametrize("size", [0, 13, 65562 - 12 + 1])
def test_frames_of_impossible_sizes_are_dropped_and_counted(size):
    net = Net()
    head = net.send(bytes(size))
    net.driver.notify(1)
    assert net.tap.sent == []
    assert net.tx.take_used() == [(head, 0)]
    assert net.counters.tx_malformed_frames == 1


def test_frames_with_something_to_write_are_dropped_and_counted():
    net = Net()
    gpa = net.driver.alloc(4096)
    net.tx.add([(gpa, 100)], [(gpa + 100, 10)])
    net.driver.notify(1)
    assert net.counters.tx_malformed_frames == 1


@pytest.mark.parametrize("cuts", [(), (20,)])
def test_a_foreign_source_address_is_counted_and_sent(cuts):
    net = Net(mac=MAC)
    net.send(frame(source=b"\2\0\0\0\0\7"), cuts=cuts)
    net.driver.notify(1)
    assert net.counters.tx_spoofed_mac_count == 1
    assert len(net.tap.sent) == 1


def test_without_a_given_address_none_is_foreign():
    net = Net()
    net.send(frame())
    net.driver.notify(1)
    assert net.counters.tx_spoofed_mac_count == 0


def test_a_frame_that_the_tap_refuses_is_lost_and_counted():
    net = Net()
    net.tap.broken = True
    head = net.send(frame())
    net.driver.notify(1)
    assert net.tx.take_used() == [(head, 0)]
    assert (net.counters.tap_write_fails, net.counters.tx_fails) == (1, 1)
    assert net.counters.tx_packets_count == 0


# ------------------------------------------------------------------ save, reset


def test_a_pause_leaves_unused_buffers_in_the_queue():
    net = Net(features=MERGEABLE)
    net.post(1024, count=100)
    net.arrive(frame())
    queue = net.device.active.queues[0]
    assert queue.pending < 99
    net.device.pause()
    assert queue.pending == 99
    net.device.kick()
    net.arrive(frame(60, fill=2))
    assert len(net.received()) == 2


def test_buffers_are_not_held_while_pages_are_tracked():
    net = Net(features=MERGEABLE)
    net.driver.memory.track_dirty(True)
    net.post(1024, count=100)
    net.arrive(frame())
    assert net.device.active.queues[0].pending == 99
    net.driver.memory.take_dirty()
    net.arrive(frame())
    head = [head for head, _ in net.rx.take_used()][1]
    assert net.buffers[head] >> 12 in net.driver.memory.take_dirty()


@given(st.integers(1, 2**40), st.integers(1, 2**30), st.booleans())
def test_the_state_of_a_restored_device_is_the_saved_one(size, ops, both):
    saved = Net(
        features=MERGEABLE,
        rx_limiter=RateLimiter(TokenBucket(size, 10, 3)),
        tx_limiter=RateLimiter(TokenBucket(ops, 10) if both else None, TokenBucket(ops, 7)),
    )
    saved.post(1024, count=80)
    saved.arrive(frame())
    state = saved.driver.transport.state()
    assert state["queues"][0]["next_avail"] == 1
    other = Net(bring_up=False)
    other.driver.transport.restore(state)
    assert other.driver.transport.state() == state


def test_a_reset_lets_go_of_the_tap_and_the_timers():
    net = Net(features=VERSION_1, rx_limiter=limiter(ops=1))
    net.post(count=3)
    net.arrive(frame(), frame())
    net.driver.write(v.VIRTIO_MMIO_STATUS, 0)
    assert TAP_FD not in net.driver.loop.watched
    assert not any(timer.armed for timer in net.driver.loop.timers)
    assert not net.tap.closed
    net.device.close()
    assert net.tap.closed


# ---------------------------------------------------------------------- hostile


@settings(max_examples=150)
@given(
    st.sampled_from([VERSION_1, MERGEABLE, TSO]),
    st.lists(
        st.tuples(
            st.integers(0x200000, 0x210000) | st.integers(0, 2**64 - 1),
            st.sampled_from([0, 1, 11, 12, 26, 1526, 65562]) | st.integers(0, 2**32 - 1),
            st.integers(0, 7),
            st.integers(0, 9),
        ),
        min_size=1,
        max_size=8,
    ),
    st.lists(st.integers(0, 9), max_size=8),
    st.sampled_from([0, 1]),
)
def test_any_chains_are_given_back_or_break_the_device(features, table, heads, index):
    net = Net(features=features, mac=MAC, mmds=FakeMmds())
    queue = net.driver.queues[index]
    for slot, descriptor in enumerate(table):
        queue.put_descriptor(slot, *descriptor)
    for head in heads:
        queue.publish(head)
    net.tap.waiting.extend([frame()] * 3)
    net.driver.notify(index)
    if net.device.active is not None:
        taken = [head for head, _ in queue.take_used()]
        assert taken == heads[: len(taken)]
        if index == 1:
            assert taken == heads
