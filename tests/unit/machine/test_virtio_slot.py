import pytest

from pyrovm.abi import virtio as v
from pyrovm.devices.virtio_rng import VirtioRng
from pyrovm.machine.loop import EventLoop
from pyrovm.machine.virtio_slot import VirtioSlot
from tests.fakes.driver import Driver

GPA = 0xC000_1000


class FakeVm:
    def __init__(self):
        self.irqs = []
        self.doorbells = []

    def irqfd(self, fd, gsi):
        self.irqs.append((fd, gsi))

    def ioeventfd(self, fd, address, size, *, datamatch):
        self.doorbells.append((fd, address, size, datamatch))


class SlotDriver(Driver):
    """A driver that reaches its device through a slot on a real loop."""

    def __init__(self, device, loop):
        super().__init__(device, bring_up=False)
        self.vm = FakeVm()
        self.slot = VirtioSlot(
            device,
            vm=self.vm,
            memory=self.memory,
            loop=loop,
            gpa=GPA,
            gsi=5,
            page=memoryview(bytearray(4096)),
            warn=self.warnings.append,
        )
        self.transport = self.slot

    def request(self):
        return self.queues[0].add([], [(self.alloc(8), 8)])


@pytest.fixture
def loop():
    made = EventLoop()
    yield made
    made.close()


@pytest.fixture
def driver(loop):
    made = SlotDriver(VirtioRng(bytes), loop)
    yield made
    made.slot.close()


def test_the_slot_has_an_interrupt_and_a_doorbell_for_each_queue(driver):
    assert [gsi for _, gsi in driver.vm.irqs] == [5]
    assert [entry[1:] for entry in driver.vm.doorbells] == [(GPA + 0x50, 4, 0)]
    assert driver.slot.cmdline == "virtio_mmio.device=4K@0xc0001000:5"


def test_what_was_queued_before_driver_ok_is_served_although_its_bell_was_not_heard(loop, driver):
    head = driver.request()
    driver.bring_up()
    loop.run_once(0)
    assert driver.queues[0].take_used() == [(head, 8)]
    assert driver.slot.interrupts == 1


def test_the_first_look_waits_for_the_end_of_a_pause(loop, driver):
    head = driver.request()
    driver.bring_up()
    driver.slot.pause()
    loop.run_once(0)
    assert driver.queues[0].take_used() == []
    driver.slot.resume()
    assert driver.queues[0].take_used() == [(head, 8)]


def test_a_driver_that_left_at_once_is_not_looked_at(loop, driver):
    driver.request()
    driver.bring_up()
    driver.write(v.VIRTIO_MMIO_STATUS, 0)
    loop.run_once(0)
    assert driver.queues[0].take_used() == []


def test_a_restored_slot_stands_still_until_it_is_resumed(loop, driver):
    driver.bring_up()
    head = driver.request()
    driver.slot.pause()
    saved = driver.slot.state()
    other = SlotDriver(VirtioRng(bytes), loop)
    other.ram[:] = driver.ram
    other.slot.restore(saved)
    loop.run_once(0)
    assert other.ram == driver.ram, "nothing was served"
    assert (other.slot.interrupts, other.slot.state()) == (0, saved)
    other.slot.resume()
    driver.slot.resume()
    assert driver.queues[0].take_used() == [(head, 8)]
    assert other.ram == driver.ram
    assert other.slot.interrupts == 2, "for the buffer, and again in case that one is lost"
    other.slot.close()


def test_a_broken_queue_breaks_the_device_and_not_the_loop(loop, driver):
    driver.bring_up()
    loop.run_once(0)
    driver.queues[0].add([], [(1 << 40, 8)])
    driver.slot.kick()
    assert driver.slot.transport.broken
    assert driver.warnings
