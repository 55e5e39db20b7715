"""When the kernel serves the queues of a network device, and when it must not."""

import pytest

from pyrovm.abi import virtio as v
from tests.fakes.net import TAP_FD, FakeMmds, Net, frame, limiter

# ----------------------------------------------------------------------- kernel


class FakeKernel:
    """Takes the queues over and pretends to have moved ``moved`` frames each way."""

    def __init__(self, moved=0):
        self.calls = []
        self.moved = moved

    def start(self, memory, queues, features, kicks, calls):
        self.calls.append(("start", features, tuple(kicks), tuple(calls)))

    def set_memory(self, memory):
        self.calls.append(memory)

    def stop(self, memory, queues):
        self.calls.append("stop")
        for queue in queues:
            queue.continue_at(queue.next_avail + self.moved, queue.next_used + self.moved)

    def close(self):
        self.calls.append("close")


def in_kernel(kernel, **options):
    net = Net(kernel=kernel, bring_up=False, **options)
    net.driver.transport.kicks, net.driver.transport.calls = [70, 71], [80, 80]
    for kick in (70, 71):
        net.driver.loop.watch(kick, lambda _events: None)
    net.driver.bring_up()
    return net


def watched_for(net, fd):
    return net.driver.loop.watched[fd][1]


def test_the_kernel_serves_where_nothing_looks_at_frames():
    kernel = FakeKernel()
    net = in_kernel(kernel)
    assert kernel.calls == [("start", net.device.active.features, (70, 71), (80, 80))]
    assert [watched_for(net, fd) for fd in (70, 71, TAP_FD)] == [0, 0, 0]
    assert net.driver.read(v.VIRTIO_MMIO_INTERRUPT_STATUS) == 1
    net.send(frame())
    net.driver.notify(1)  # a late notification
    assert net.tap.sent == []


@pytest.mark.parametrize(
    "options",
    [{"mmds": FakeMmds()}, {"rx_limiter": limiter(ops=1)}, {"tx_limiter": limiter(ops=1)}],
)
def test_what_must_look_at_frames_keeps_them_here(options):
    kernel = FakeKernel()
    net = in_kernel(kernel, **options)
    assert kernel.calls == []
    net.send(frame())
    net.driver.notify(1)
    assert len(net.tap.sent) == 1


def test_a_pause_takes_the_queues_back_and_a_kick_returns_them():
    kernel = FakeKernel(moved=2)
    net = in_kernel(kernel)
    net.device.pause()
    assert kernel.calls[1:] == ["stop"]
    assert [queue.next_used for queue in net.device.active.queues] == [2, 2]
    assert [watched_for(net, fd) for fd in (70, 71)] == [1, 1]
    net.device.pause()
    net.device.kick()
    assert len(kernel.calls) == 3
    assert kernel.calls[2][0] == "start"


def test_the_kernel_learns_of_changed_memory_while_it_serves():
    kernel = FakeKernel()
    net = in_kernel(kernel)
    net.device.memory_changed()
    assert kernel.calls[-1] is net.driver.memory
    net.device.pause()
    net.device.memory_changed()
    assert kernel.calls[-1] == "stop"


def test_a_limit_set_later_brings_the_frames_back_here():
    kernel = FakeKernel()
    net = in_kernel(kernel)
    net.send(frame())
    net.device.update_tx_limiter(limiter(ops=5), bandwidth=True, ops=True)
    assert kernel.calls[-1] == "stop"
    assert net.watches_tap
    net.driver.loop.advance(0)
    assert len(net.tap.sent) == 1


def test_a_reset_stops_the_kernel_and_close_releases_it():
    kernel = FakeKernel()
    net = in_kernel(kernel)
    net.driver.write(v.VIRTIO_MMIO_STATUS, 0)
    assert kernel.calls[-1] == "stop"
    net.device.close()
    assert kernel.calls[-1] == "close"
