"""The event loop: readiness, muting, timers, calls from other threads."""

import os
import threading

import pytest

from pyrovm.machine.loop import EPOLLIN, EPOLLOUT, EventLoop


@pytest.fixture
def loop():
    made = EventLoop()
    yield made
    made.close()


@pytest.fixture
def pipe():
    reader, writer = os.pipe2(os.O_NONBLOCK)
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            pass


def test_a_ready_descriptor_is_called_every_round_until_it_is_drained(loop, pipe):
    seen = []
    loop.watch(pipe[0], seen.append)
    os.write(pipe[1], b"x")
    loop.run_once(1)
    loop.run_once(1)
    assert seen == [EPOLLIN, EPOLLIN]
    os.read(pipe[0], 1)
    loop.run_once(0)
    assert len(seen) == 2


def test_a_muted_descriptor_is_silent_even_when_the_other_end_hangs_up(loop, pipe):
    seen = []
    loop.watch(pipe[0], seen.append)
    loop.modify(pipe[0], 0)
    os.write(pipe[1], b"x")
    os.close(pipe[1])
    loop.run_once(0)
    assert seen == []
    loop.modify(pipe[0], EPOLLIN)
    loop.run_once(1)
    assert len(seen) == 1


def test_watching_for_writing(loop, pipe):
    seen = []
    loop.watch(pipe[1], seen.append, EPOLLOUT)
    loop.run_once(1)
    assert seen == [EPOLLOUT]
    loop.modify(pipe[1], EPOLLIN)
    loop.run_once(0)
    assert len(seen) == 1


def test_an_unwatched_descriptor_is_not_called_in_the_same_round(loop, pipe):
    other_reader, other_writer = os.pipe()
    calls = []

    def first(_events):
        calls.append("called")
        loop.unwatch(pipe[0])
        loop.unwatch(other_reader)

    loop.watch(pipe[0], first)
    loop.watch(other_reader, first)
    os.write(pipe[1], b"x")
    os.write(other_writer, b"x")
    loop.run_once(1)
    assert calls == ["called"]
    os.close(other_reader)
    os.close(other_writer)


def test_a_regular_file_cannot_be_watched(loop, tmp_path):
    with open(tmp_path / "f", "w+") as file, pytest.raises(PermissionError):
        loop.watch(file.fileno(), lambda _e: None)


def test_timers_fire_once_in_any_order_and_can_be_disarmed(loop):
    fired = []
    first, second, third = (loop.timer(lambda n=n: fired.append(n)) for n in range(3))
    first.arm(0.002)
    second.arm(0.001)
    third.arm(0.001)
    third.disarm()
    while len(fired) < 2:
        loop.run_once(1)
    loop.run_once(0.01)
    assert sorted(fired) == [0, 1]
    assert not first.armed


def test_a_timer_may_arm_itself_again(loop):
    count = []

    def tick():
        count.append(1)
        if len(count) < 3:
            timer.arm(0)

    timer = loop.timer(tick)
    timer.arm(0)
    while len(count) < 3:
        loop.run_once(1)
    assert not timer.armed


def test_calls_from_other_threads_run_in_the_loop_in_order(loop):
    ran = []

    def work():
        for n in range(100):
            loop.post(lambda n=n: ran.append((n, threading.get_ident())))
        loop.post(loop.stop)

    thread = threading.Thread(target=work)
    thread.start()
    loop.run()
    thread.join()
    assert ran == [(n, threading.get_ident()) for n in range(100)]


def test_a_posted_call_may_post_another(loop):
    ran = []
    loop.post(lambda: loop.post(lambda: (ran.append(1), loop.stop())))
    loop.run()
    assert ran == [1]
