"""Token buckets and the limiter of two: any requests at any times."""

from __future__ import annotations

from fuzz.source import Source
from pyrovm.devices.rate_limiter import RateLimiter, make_bucket
from tests.fakes.driver import FakeLoop


def one_input(data: bytes) -> None:
    """No more is let through than the buckets were given, and whoever waits is woken."""
    source = Source(data)
    now_ns = 0

    def clock() -> int:
        return now_ns

    size, refill_ms = source.edge(20), source.edge(20)
    burst = source.edge(20)
    bandwidth = make_bucket(size, refill_ms, burst, clock)
    ops = make_bucket(source.edge(20), source.edge(20), source.edge(20), clock)
    limiter = RateLimiter(bandwidth, ops)
    loop = FakeLoop()
    woken: list[int] = []
    limiter.attach(loop, lambda: woken.append(1))
    passed = 0
    owed = 0  # by requests larger than the bucket, which are paid for by waiting
    while source.left:
        kind = source.u8()
        if kind & 1:
            request = source.edge(20) if kind & 2 else source.below(1 << 16)
            was_blocked = limiter.is_blocked
            if limiter.consume(request):
                assert not was_blocked
                passed += request
                if request > size:
                    owed += request
            else:
                assert limiter.is_blocked, "who has to wait is woken"
                armed = [t for t in loop.timers if t.armed]
                assert len(armed) == 1
        else:
            seconds = source.choice((0.001, 0.05, 0.1, 1.0, 3600.0))
            now_ns += round(seconds * 1_000_000_000)
            before = len(woken)
            was_blocked = limiter.is_blocked
            loop.advance(seconds)
            assert len(woken) - before == int(was_blocked and not limiter.is_blocked)
        for bucket in (bandwidth, ops):
            if bucket is not None:
                assert 0 <= bucket.budget <= bucket.size
                assert 0 <= bucket.burst <= bucket.one_time_burst
    if bandwidth is not None:
        refilled = now_ns * size // (refill_ms * 1_000_000) + 1
        assert passed <= burst + size + refilled + owed
    state = limiter.state()
    other = RateLimiter()
    other.restore(state)
    assert other.state() == state
    limiter.detach()
    assert not limiter.is_blocked


SEEDS = [
    b"\x14\x1a\x05\x00\x00\x00" + b"\x01\x20\x00\x00\x02" * 10,
    b"\x1e\x0b\x00\x05\x0b\x02" + b"\x01\x01\x00" * 8 + b"\x00\x03\x01\x01\x00",
    b"\x0a\x14\x0a\x00\x00\x00\x03\x19\x00\x04\x03\x19\x03\x02",
]
