from pyrovm.devices.virtio_vsock import VirtioVsock
from pyrovm.devices.virtio_vsock_kernel import VirtioVsockKernel
from pyrovm.errors import HostError
from pyrovm.virtio.mmio import VirtioMmio
from tests.fakes.driver import Driver

CID = 42
RX, TX, EVENT = range(3)


class FakeKernel:
    def __init__(self):
        self.calls = []
        self.fails = False

    def start(self, memory, queues, features, kicks, calls):
        if self.fails:
            raise HostError("vhost: no")
        self.calls.append(("start", [q.index for q in queues], features))

    def set_memory(self, memory):
        self.calls.append(("memory", memory.size))

    def stop(self, memory, queues):
        self.calls.append(("stop", [q.index for q in queues]))

    def close(self):
        self.calls.append(("close",))


class KernelDriver(Driver):
    """A driver whose transport has doorbells: descriptors 100 to 102 on the loop."""

    def __init__(self, device):
        super().__init__(device, bring_up=False)
        kicks = [100, 101, 102]
        self.transport = VirtioMmio(
            device,
            self.memory,
            self.loop,
            raise_irq=self._irq,
            barrier=lambda: None,
            warn=self.warnings.append,
            kicks=kicks,
            calls=[200] * 3,
        )
        for kick in kicks:
            self.loop.watch(kick, lambda _events: None)
        self.bring_up()

    @property
    def watched(self):
        return [self.loop.watched[fd][1] for fd in (100, 101, 102)]


def test_the_kernel_gets_both_data_queues_and_we_stop_listening_for_them():
    driver = KernelDriver(VirtioVsockKernel(CID, kernel := FakeKernel()))
    assert driver.status == 15
    assert kernel.calls == [("start", [RX, TX], driver.device.features)]
    assert driver.watched == [0, 0, 1]
    assert driver.config(8) == CID.to_bytes(8, "little")
    assert driver.read(0x60) == 1


def test_a_pause_takes_the_queues_back_and_a_kick_hands_them_over_again():
    driver = KernelDriver(VirtioVsockKernel(CID, kernel := FakeKernel()))
    driver.device.pause()
    driver.device.pause()
    assert driver.watched == [1, 1, 1]
    driver.device.kick()
    driver.device.kick()
    assert [c[0] for c in kernel.calls] == ["start", "stop", "start"]
    assert driver.watched == [0, 0, 1]


def test_a_reset_takes_the_queues_back():
    driver = KernelDriver(VirtioVsockKernel(CID, kernel := FakeKernel()))
    driver.write(0x70, 0)
    assert [c[0] for c in kernel.calls] == ["start", "stop"]
    driver.device.memory_changed()
    driver.device.close()
    assert [c[0] for c in kernel.calls] == ["start", "stop", "close"]


def test_the_kernel_learns_of_changed_memory():
    driver = KernelDriver(VirtioVsockKernel(CID, kernel := FakeKernel()))
    driver.device.memory_changed()
    assert kernel.calls[-1] == ("memory", driver.memory.size)


def test_when_the_kernel_refuses_the_device_needs_reset():
    kernel = FakeKernel()
    kernel.fails = True
    driver = KernelDriver(VirtioVsockKernel(CID, kernel))
    assert driver.status & 0x40
    assert kernel.calls == []


def test_a_transport_without_doorbells_cannot_serve_a_kernel():
    driver = Driver(VirtioVsockKernel(CID, FakeKernel()))
    assert driver.status & 0x40


def test_a_transport_reset_reaches_the_guest():
    driver = KernelDriver(VirtioVsockKernel(CID, FakeKernel()))
    gpa = driver.alloc(8, b"\xff" * 8)
    head = driver.queues[EVENT].add([], [(gpa, 8)])
    driver.device.reset_transport()
    assert driver.queues[EVENT].take_used() == [(head, 4)]
    assert driver.memory.read(gpa, 4) == bytes(4)
    irqs = driver.irqs
    driver.device.kick()
    assert driver.irqs == irqs + 1
    driver.queues[EVENT].add([], [(gpa, 8)])
    driver.notify(EVENT)
    assert driver.device.state()["reset_mark"] is None


def test_a_guest_that_the_kernel_served_may_go_on_where_we_serve_it():
    kernel = VirtioVsockKernel(CID, FakeKernel())
    ours = VirtioVsock(3, None)
    ours.restore(kernel.state())
    assert ours.guest_cid == CID
    assert ours.features == kernel.features
    back = VirtioVsockKernel(3, FakeKernel())
    back.restore(ours.state())
    assert back.state() == kernel.state()
