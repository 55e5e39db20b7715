"""The bus: who answers which port or page."""

import pytest

from pyrovm.machine.bus import Bus


class Device:
    def read(self, offset, size):
        return 0

    def write(self, offset, size, value):
        pass


def test_ports_and_pages_lead_to_their_device_and_its_base():
    bus, device = Bus(), Device()
    bus.add_ports(0x3F8, 8, device)
    bus.add_mmio(0xC000_0000, 0x2000, device)
    assert all(bus.ports[p].device is device for p in range(0x3F8, 0x400))
    assert bus.ports[0x3F9].base == 0x3F8
    assert bus.pages[0xC0001].base == 0xC000_0000
    assert 0xC0002 not in bus.pages


def test_an_overlap_is_refused_and_changes_nothing():
    bus = Bus()
    bus.add_ports(0x60, 5, Device())
    with pytest.raises(ValueError, match="overlaps Device at 0x60"):
        bus.add_ports(0x5F, 3, Device())
    assert 0x5F not in bus.ports


@pytest.mark.parametrize(("base", "size"), [(0x800, 0x1000), (0x1000, 0x800)])
def test_mmio_ranges_are_made_of_pages(base, size):
    with pytest.raises(ValueError, match="not made of pages"):
        Bus().add_mmio(base, size, Device())
