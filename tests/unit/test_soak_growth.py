"""What a soak calls growth."""

import random

import pytest

from tests.soak import growth


def told(name, values):
    return growth.judge([{name: value} for value in values])[name]["grows"]


@pytest.mark.parametrize(
    "values",
    [
        [12] * 30,
        [12, 13] * 15,
        [12] * 29 + [40],  # a single one, and be it the last
        [40] + [12] * 29,
        [20] * 10 + [12] * 20,
        [12, 13, 14],  # too few to say
    ],
)
def test_what_goes_up_and_down_does_not_grow(values):
    assert not told("descriptors of caller", values)


@pytest.mark.parametrize(
    "values", [range(12, 42), [12] * 15 + [13] * 15, [12 + n // 10 for n in range(30)]]
)
def test_one_more_that_stays_grows(values):
    assert told("descriptors of caller", list(values))


def test_memory_may_settle_but_not_go_on():
    rng = random.Random(1)
    noise = [15000 + rng.randrange(1500) for _ in range(30)]
    assert not told("private of caller_kib", noise)
    assert told("private of caller_kib", [kib + 150 * n for n, kib in enumerate(noise)])


def test_proportional_memory_is_only_shown():
    assert not told("pss of caller_kib", range(0, 1 << 20, 1 << 15))
