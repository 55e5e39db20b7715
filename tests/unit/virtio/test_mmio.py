"""The virtio-mmio registers: bring-up, its order, what is ignored, what breaks a device."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrovm.abi import virtio as v
from pyrovm.errors import GuestError
from pyrovm.virtio.device import VirtioDevice
from tests.fakes.driver import Driver


class Echo(VirtioDevice):
    """Two queues, 12 bytes of configuration of which the driver may write the last four."""

    device_id = 42
    queue_sizes = (256, 64)

    def __init__(self):
        super().__init__("echo")
        self.features |= 1 << v.VIRTIO_RING_F_EVENT_IDX | 1 << 3
        self.words = bytearray(b"abcdefgh\0\0\0\0")
        self.processed = []

    def config(self):
        return bytes(self.words)

    def write_config(self, offset, data):
        if offset >= 8:
            self.words[offset : offset + len(data)] = data

    def process(self, index):
        self.processed.append(index)
        chain = self.active.queues[index].pop()
        if chain is not None:
            self.active.queues[index].push(chain.head, 0)
            self.active.interrupts.queue()

    def state(self):
        return {"words": bytes(self.words)}

    def restore(self, state):
        self.words = bytearray(state["words"])


def fresh(**options):
    return Driver(Echo(), **options)


def test_identity_registers():
    driver = fresh(bring_up=False)
    assert driver.read(v.VIRTIO_MMIO_MAGIC_VALUE) == 0x74726976
    assert driver.read(v.VIRTIO_MMIO_VERSION) == 2
    assert driver.read(v.VIRTIO_MMIO_DEVICE_ID) == 42
    assert driver.read(v.VIRTIO_MMIO_VENDOR_ID) == 0
    assert driver.config(8) == b"abcdefgh"


def test_features_come_in_two_words_and_version_1_is_bit_32():
    driver = fresh(bring_up=False)
    driver.write(v.VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0)
    assert driver.read(v.VIRTIO_MMIO_DEVICE_FEATURES) == 1 << 29 | 1 << 3
    driver.write(v.VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1)
    assert driver.read(v.VIRTIO_MMIO_DEVICE_FEATURES) == 1
    driver.write(v.VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2)
    assert driver.read(v.VIRTIO_MMIO_DEVICE_FEATURES) == 0


def test_bring_up_activates_the_device_with_what_was_negotiated():
    driver = fresh()
    assert driver.status == 15
    assert driver.device.active.features == 1 << 32 | 1 << 29 | 1 << 3
    assert not driver.warnings


@pytest.mark.parametrize("steps", [[3], [1, 11], [1, 3, 15], [15], [1, 3, 11, 15, 3]])
def test_status_moves_one_step_at_a_time(steps):
    driver = fresh(bring_up=False)
    for value in steps:
        driver.write(v.VIRTIO_MMIO_STATUS, value)
    assert driver.warnings
    assert driver.status != steps[-1] or steps == [1, 3, 11, 15, 3]


def test_failed_may_be_added_at_any_time_and_stops_the_device():
    driver = fresh()
    driver.write(v.VIRTIO_MMIO_STATUS, 15 | v.VIRTIO_CONFIG_S_FAILED)
    assert driver.status & v.VIRTIO_CONFIG_S_FAILED
    assert driver.device.active is None


def test_zero_resets_everything_and_the_driver_can_come_back():
    driver = fresh()
    driver.write(v.VIRTIO_MMIO_STATUS, 0)
    assert driver.status == 0
    assert driver.device.active is None
    driver.write(v.VIRTIO_MMIO_QUEUE_SEL, 0)
    assert driver.read(v.VIRTIO_MMIO_QUEUE_READY) == 0
    driver.bring_up()
    assert driver.status == 15
    assert driver.device.active is not None


def test_features_are_accepted_only_between_driver_and_features_ok():
    driver = fresh(bring_up=False)
    driver.write(v.VIRTIO_MMIO_DRIVER_FEATURES, 8)
    assert driver.warnings
    driver.negotiate(1 << 32)
    driver.write(v.VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0)
    driver.write(v.VIRTIO_MMIO_DRIVER_FEATURES, 8)
    driver.bring_up(1 << 32)
    assert driver.device.active.features == 1 << 32


def test_features_that_were_not_offered_are_dropped_with_a_warning():
    driver = fresh(bring_up=False)
    driver.negotiate(1 << 32 | 1 << 5)
    assert any("not all offered" in w for w in driver.warnings)
    driver.write(v.VIRTIO_MMIO_STATUS, 15)
    assert driver.device.active.features == 1 << 32


def test_a_driver_without_version_1_does_not_get_features_ok():
    driver = fresh(bring_up=False)
    driver.negotiate(1 << 3)
    assert driver.status == 3


def test_queue_registers_show_the_selected_queue():
    driver = fresh(bring_up=False)
    for index, size in ((0, 256), (1, 64), (2, 0), (0xFFFF_FFFF, 0)):
        driver.write(v.VIRTIO_MMIO_QUEUE_SEL, index)
        assert driver.read(v.VIRTIO_MMIO_QUEUE_NUM_MAX) == size
        assert driver.read(v.VIRTIO_MMIO_QUEUE_READY) == 0


def test_queues_are_configured_only_between_features_ok_and_driver_ok():
    driver = fresh(bring_up=False)
    driver.write(v.VIRTIO_MMIO_QUEUE_READY, 1)
    assert driver.transport.queues[0].ready is False
    driver.bring_up()
    driver.write(v.VIRTIO_MMIO_QUEUE_SEL, 0)
    driver.write(v.VIRTIO_MMIO_QUEUE_DESC_LOW, 0xDEAD_0000)
    assert driver.transport.queues[0].desc != 0xDEAD_0000
    assert len(driver.warnings) == 2


def test_addresses_are_put_together_from_two_words():
    driver = fresh(bring_up=False)
    driver.negotiate()
    driver.write(v.VIRTIO_MMIO_QUEUE_SEL, 1)
    driver.write(v.VIRTIO_MMIO_QUEUE_AVAIL_HIGH, 0x12)
    driver.write(v.VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x3456_7890)
    driver.write(v.VIRTIO_MMIO_QUEUE_AVAIL_HIGH, 0x21)
    assert driver.transport.queues[1].avail == 0x21_3456_7890


def test_queues_outside_memory_leave_the_device_in_need_of_reset():
    driver = fresh(bring_up=False)
    driver.negotiate()
    for index in (0, 1):
        driver.write(v.VIRTIO_MMIO_QUEUE_SEL, index)
        driver.write(v.VIRTIO_MMIO_QUEUE_DESC_HIGH, 0x1000)
        driver.write(v.VIRTIO_MMIO_QUEUE_READY, 1)
    driver.write(v.VIRTIO_MMIO_STATUS, 15)
    assert driver.status & v.VIRTIO_CONFIG_S_NEEDS_RESET
    assert driver.device.active is None
    assert driver.irqs == 1
    assert driver.read(v.VIRTIO_MMIO_INTERRUPT_STATUS) == v.VIRTIO_MMIO_INT_CONFIG


def test_a_broken_ring_breaks_the_device_until_it_is_reset():
    driver = fresh()
    driver.queues[0].set_avail_index(9999)
    driver.notify()
    assert driver.status & v.VIRTIO_CONFIG_S_NEEDS_RESET
    assert "jumped" in driver.transport.broken
    processed = list(driver.device.processed)
    driver.notify()
    assert driver.device.processed == processed, "a broken device is left alone"
    driver.queues = [type(q)(driver.memory, q.index, q.size) for q in driver.queues]
    driver.queues[0].set_avail_index(0)
    driver.bring_up()
    assert driver.status == 15


def test_interrupts_set_status_bits_until_acknowledged():
    driver = fresh()
    driver.queues[0].add([(0x1000, 1)], [])
    driver.notify()
    assert driver.irqs == 1
    assert driver.read(v.VIRTIO_MMIO_INTERRUPT_STATUS) == 1
    driver.transport.config()
    assert driver.read(v.VIRTIO_MMIO_INTERRUPT_STATUS) == 3
    driver.write(v.VIRTIO_MMIO_INTERRUPT_ACK, 1)
    assert driver.read(v.VIRTIO_MMIO_INTERRUPT_STATUS) == 2


def test_a_config_change_moves_the_generation_and_interrupts():
    driver = fresh()
    before = driver.read(v.VIRTIO_MMIO_CONFIG_GENERATION)
    driver.device.words[0:4] = b"ABCD"
    driver.transport.config()
    assert driver.config(4) == b"ABCD"
    assert driver.read(v.VIRTIO_MMIO_CONFIG_GENERATION) != before
    assert driver.irqs == 1


def test_a_config_change_before_driver_ok_does_not_interrupt():
    driver = fresh(bring_up=False)
    driver.transport.config()
    assert driver.irqs == 0


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_driver_writes_configuration_of_any_width(size):
    driver = fresh()
    driver.transport.write(0x108, size, int.from_bytes(b"WXYZ"[:size], "little"))
    assert driver.config(4, 8)[:size] == b"WXYZ"[:size]


def test_configuration_past_its_end_is_not_written():
    driver = fresh()
    driver.transport.write(0x10A, 4, 0xFFFF_FFFF)
    assert driver.config(12) == b"abcdefgh\0\0\0\0"
    assert driver.warnings


@pytest.mark.parametrize("size", [1, 2, 8])
def test_registers_take_only_words(size):
    driver = fresh(bring_up=False)
    driver.transport.write(v.VIRTIO_MMIO_STATUS, size, 1)
    assert driver.status == 0


def test_state_survives_a_round_trip_and_the_device_works_on():
    driver = fresh()
    driver.queues[1].add([(0x1000, 1)], [])
    saved = driver.transport.state()
    other = Driver(Echo(), bring_up=False)
    other.ram[:] = driver.ram
    other.transport.restore(saved)
    assert other.transport.state() == saved
    other.device.process(1)
    assert other.irqs == 1


def test_what_was_not_acknowledged_can_be_interrupted_for_again():
    driver = fresh()
    driver.transport.repeat_interrupt()
    assert driver.irqs == 0
    driver.queues[1].add([(0x1000, 1)], [])
    driver.device.process(1)
    saved = driver.transport.state()
    other = Driver(Echo(), bring_up=False)
    other.ram[:] = driver.ram
    other.transport.restore(saved)
    assert other.irqs == 0
    other.transport.repeat_interrupt()
    assert other.irqs == 1
    other.write(v.VIRTIO_MMIO_INTERRUPT_ACK, v.VIRTIO_MMIO_INT_VRING)
    other.transport.repeat_interrupt()
    assert other.irqs == 1


def test_a_driver_that_relies_on_more_than_is_offered_is_refused():
    saved = fresh().transport.state()
    saved["driver_features"] |= 1 << 40
    with pytest.raises(ValueError, match="relies on features 0x10000000000, which this device"):
        fresh(bring_up=False).transport.restore(saved)


def test_a_state_of_another_device_is_refused():
    driver = fresh()
    saved = driver.transport.state()
    saved["queues"].pop()
    with pytest.raises(ValueError, match="1 queues saved, has 2"):
        fresh(bring_up=False).transport.restore(saved)


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(0, 0xFFF), st.sampled_from(range(0, 0x110, 4))),
            st.sampled_from([1, 2, 4, 4, 4, 8]),
            st.one_of(st.integers(0, 16), st.integers(0, (1 << 64) - 1)),
        ),
        max_size=40,
    )
)
def test_no_sequence_of_writes_does_more_than_break_the_device(writes):
    driver = fresh(bring_up=False)
    for offset, size, value in writes:
        driver.transport.write(offset, size, value & ((1 << 8 * size) - 1))
        for index in (0, 1):
            try:
                if driver.device.active is not None and driver.transport.queues[index].ready:
                    driver.device.process(index)
            except GuestError as error:
                driver.transport.fail(str(error))
    assert driver.read(v.VIRTIO_MMIO_MAGIC_VALUE) == 0x74726976


def test_a_device_in_the_kernel_always_reports_used_buffers_until_reset():
    driver = fresh()
    driver.transport.leave_to_kernel()
    assert driver.read(v.VIRTIO_MMIO_INTERRUPT_STATUS) == 1
    driver.write(v.VIRTIO_MMIO_INTERRUPT_ACK, 1)
    assert driver.read(v.VIRTIO_MMIO_INTERRUPT_STATUS) == 1
    driver.transport.config()
    assert driver.read(v.VIRTIO_MMIO_INTERRUPT_STATUS) == 3
    driver.write(v.VIRTIO_MMIO_INTERRUPT_ACK, 3)
    assert driver.read(v.VIRTIO_MMIO_INTERRUPT_STATUS) == 1
    driver.bring_up()
    assert driver.read(v.VIRTIO_MMIO_INTERRUPT_STATUS) == 0


def test_the_device_learns_which_descriptors_kick_and_interrupt():
    driver = fresh(bring_up=False)
    driver.transport.kicks, driver.transport.calls = [7, 8], [9, 9]
    driver.bring_up()
    assert driver.device.active.kicks == [7, 8]
    assert driver.device.active.calls == [9, 9]
