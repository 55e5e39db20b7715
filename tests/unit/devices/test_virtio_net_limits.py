"""Who waits for what: rate limits, and the metadata service that comes before the tap."""

import pytest

from pyrovm.devices.rate_limiter import RateLimiter
from tests.fakes.net import (
    MERGEABLE,
    VERSION_1,
    FakeMmds,
    Net,
    frame,
    limiter,
)

# ---------------------------------------------------------------- rate limiting


def test_sending_past_the_limit_waits_for_the_timer():
    net = Net(tx_limiter=limiter(ops=2))
    for _ in range(3):
        net.send(frame())
    net.driver.notify(1)
    assert len(net.tap.sent) == 2
    net.driver.notify(1)
    assert net.counters.tx_rate_limiter_throttled == 2
    net.device.tx_limiter.ops.budget = 2
    net.driver.loop.advance(0.1)
    assert len(net.tap.sent) == 3
    assert net.counters.tx_rate_limiter_event_count == 1


@pytest.mark.parametrize("options", [{"ops": 2}, {"size": 144}])
def test_a_received_frame_past_the_limit_waits_where_it_lies(options):
    net = Net(features=VERSION_1, rx_limiter=limiter(**options))
    net.post(count=5)
    net.arrive(*[frame(60, fill=n) for n in range(4)])
    assert [data for _, data in net.received()] == [frame(60, fill=0), frame(60, fill=1)]
    assert not net.watches_tap
    assert net.counters.rx_rate_limiter_throttled == 1
    net.driver.notify(0)
    assert net.received() == []
    assert net.counters.rx_rate_limiter_throttled == 2
    for bucket in (net.device.rx_limiter.ops, net.device.rx_limiter.bandwidth):
        if bucket:
            bucket.budget = bucket.size
    net.driver.loop.advance(0.1)
    assert [data for _, data in net.received()] == [frame(60, fill=2), frame(60, fill=3)]
    assert net.watches_tap
    assert net.counters.rx_event_rate_limiter_count == 1


def test_a_pause_delivers_a_frame_that_waits_for_its_limit():
    net = Net(features=MERGEABLE, rx_limiter=limiter(ops=1))
    net.post(1024, count=100)
    net.arrive(frame(60, fill=1), frame(60, fill=2))
    net.device.pause()
    assert [data for _, data in net.received()] == [frame(60, fill=1), frame(60, fill=2)]


def test_new_limits_are_installed():
    net = Net(rx_limiter=limiter(ops=1))
    net.device.update_rx_limiter(RateLimiter(), bandwidth=False, ops=True)
    net.device.update_tx_limiter(limiter(size=9), bandwidth=True, ops=False)
    assert net.device.rx_limiter.is_unlimited
    assert net.device.tx_limiter.bandwidth.size == 9


# ------------------------------------------------------------- metadata service


@pytest.mark.parametrize("cuts", [(), (12,), (30,)])
def test_a_frame_for_the_service_never_reaches_the_tap_and_is_answered(cuts):
    mmds = FakeMmds()
    net = Net(features=VERSION_1, mmds=mmds)
    net.post(count=2)
    request = frame(60) + b"MMDS"
    net.send(request, cuts=cuts)
    net.send(frame(60))
    net.driver.notify(1)
    assert mmds.seen == [request, frame(60)]
    assert net.tap.sent == [bytes(12) + frame(60)]
    assert len(net.tx.take_used()) == 2
    assert net.received() == [(bytes(10) + b"\1\0", b"reply to " + request)]


def test_frames_for_the_service_cost_no_tokens():
    net = Net(mmds=FakeMmds(), tx_limiter=limiter(ops=3, size=10_000))
    net.send(frame(60) + b"MMDS")
    net.driver.notify(1)
    assert net.device.tx_limiter.ops.budget == 3
    assert net.device.tx_limiter.bandwidth.budget == 10_000


def test_frames_of_the_service_come_before_those_of_the_tap():
    mmds = FakeMmds()
    net = Net(features=VERSION_1, mmds=mmds)
    net.post(count=2)
    mmds.frames.append(b"from the service")
    net.arrive(frame())
    assert [data for _, data in net.received()] == [b"from the service", frame()]


def test_frames_of_the_service_wait_for_buffers():
    mmds = FakeMmds()
    net = Net(features=VERSION_1, mmds=mmds)
    net.send(frame(60) + b"MMDS")
    net.driver.notify(1)
    net.post()
    net.driver.notify(0)
    assert len(net.received()) == 1


def test_the_service_is_asked_again_when_it_said():
    mmds = FakeMmds()
    net = Net(features=VERSION_1, mmds=mmds)
    net.post(count=2)
    mmds.timeout = 0.2
    net.send(frame(60) + b"MMDS")
    net.driver.notify(1)
    net.received()
    mmds.frames.append(b"once more")
    net.driver.loop.advance(0.2)
    assert [data for _, data in net.received()] == [b"once more"]
