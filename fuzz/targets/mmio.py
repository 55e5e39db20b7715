"""The MMIO transport: registers written in any order, with any size and value."""

from __future__ import annotations

from fuzz.devices import REGISTERS, STATUSES
from fuzz.source import Source
from pyrovm.abi import virtio as v
from pyrovm.devices.virtio_rng import VirtioRng
from pyrovm.errors import GuestError
from tests.fakes.driver import Driver

QUEUE_FIELDS = (
    v.VIRTIO_MMIO_QUEUE_NUM,
    v.VIRTIO_MMIO_QUEUE_DESC_LOW,
    v.VIRTIO_MMIO_QUEUE_AVAIL_LOW,
    v.VIRTIO_MMIO_QUEUE_USED_LOW,
    v.VIRTIO_MMIO_QUEUE_READY,
)
CONSTANT = {v.VIRTIO_MMIO_MAGIC_VALUE: 0x7472_6976, v.VIRTIO_MMIO_VERSION: 2}
STEPS = {0: 1, 1: 3, 3: 11, 11: 15}


def one_input(data: bytes) -> None:
    """Status moves as virtio 1.2, 3.1.1 says, constants stay, errors are the guest's."""
    source = Source(data)
    driver = Driver(VirtioRng(lambda size: bytes(size)), bring_up=False, memory_size=0x20000)
    transport = driver.transport
    while source.left:
        before = driver.status
        kind = source.u8()
        if kind < 0x40:
            transport.write(v.VIRTIO_MMIO_STATUS, 4, source.choice(STATUSES))
        elif kind < 0x80:
            transport.write(source.choice(QUEUE_FIELDS), 4, source.edge(32))
        elif kind < 0xA0:
            transport.write(source.choice(REGISTERS), 4, source.u32())
        elif kind < 0xC0:
            size = source.choice((1, 2, 4, 8))
            transport.write(source.u16() & 0xFFF, size, source.edge(8 * size))
        elif kind < 0xE0:
            assert transport.read(source.u16() & 0xFFF, source.choice((1, 2, 4, 8))) >= 0
        elif driver.device.active is not None and transport.queues[0].ready:
            try:
                driver.device.process(0)
            except GuestError as error:
                transport.fail(str(error))
        after = driver.status
        _check_step(before, after)
        for offset, value in CONSTANT.items():
            assert driver.read(offset) == value
        if after & v.VIRTIO_CONFIG_S_DRIVER_OK and transport.broken is None:
            failed = after & v.VIRTIO_CONFIG_S_FAILED
            assert failed or driver.device.active is not None
        else:
            assert driver.device.active is None
    state = transport.state()
    other = Driver(VirtioRng(lambda size: bytes(size)), bring_up=False, memory_size=0x20000)
    other.ram[:] = driver.ram
    other.transport.restore(state)
    if other.transport.broken == state["broken"]:
        assert other.transport.state() == state


def _check_step(before: int, after: int) -> None:
    """Whether status may go from ``before`` to ``after`` in one access."""
    flags = v.VIRTIO_CONFIG_S_FAILED | v.VIRTIO_CONFIG_S_NEEDS_RESET
    kept, reached = before & ~flags, after & ~flags
    assert after == 0 or reached == kept or STEPS.get(kept) == reached
    if after:
        assert after & before & flags == before & flags, "only a reset clears these"


BRING_UP = (
    b"\x00\x01\x00\x02\x80"
    + bytes((REGISTERS.index(v.VIRTIO_MMIO_DRIVER_FEATURES_SEL),))
    + b"\1\0\0\0"
    b"\x80" + bytes((REGISTERS.index(v.VIRTIO_MMIO_DRIVER_FEATURES),)) + b"\1\0\0\0\x00\x03"
)
SEEDS = [
    BRING_UP + b"\x40\x00\x10\x40\x02\x17\x40\x03\x1a\x40\x04\x01\x00\x04\xe0",
    BRING_UP + b"\x00\x04\xe0\x00\x00",
    b"\x00\x01\x00\x02\x00\x05\x00\x00",
    b"\xa0\x00\x01\x00\x05\xc0\x00\x01\x02",
]
