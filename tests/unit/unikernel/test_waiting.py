"""What a guest may wait for, whatever it asks."""

import os
import threading

import pytest

from pyrovm.unikernel.waiting import POLLIN, POLLOUT, Waiting

DAY_NS = 86400 * 10**9


@pytest.fixture
def waiting():
    made = Waiting(memoryview(bytearray(4096)), forwarded=())
    yield made
    made.close()


def test_a_plain_file_is_ready_each_time_it_is_waited_for(waiting, tmp_path):
    with (tmp_path / "file").open("wb+") as file:
        waiting.add(7, file.fileno())
        for _ in range(2):
            assert waiting.wait(10**9, [(7, POLLIN | POLLOUT)], 8) == [(7, POLLIN | POLLOUT)]


@pytest.mark.parametrize("days", [1, 24, 25, 10_000, 106_000])
def test_a_wait_may_be_as_long_as_it_likes(waiting, days):
    inner, outer = os.pipe()
    try:
        waiting.add(5, inner)
        later = threading.Timer(0.05, os.write, (outer, b"x"))
        later.start()
        assert waiting.wait(days * DAY_NS, [(5, POLLIN)], 8) == [(5, POLLIN)]
        later.join()
    finally:
        os.close(inner)
        os.close(outer)
