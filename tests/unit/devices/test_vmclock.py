"""The VMClock page, as Linux's vmclock-abi.h lays it out."""

from struct import pack_into, unpack_from

from hypothesis import given
from hypothesis import strategies as st

from pyrovm.arch.x86.system_memory import SystemMemory
from pyrovm.devices import vmclock
from pyrovm.memory.guest_memory import GuestMemory, Region


class Machine:
    def __init__(self):
        self.memory = GuestMemory([Region(0, memoryview(bytearray(1 << 20)))])
        self.interrupts = 0
        gpa = vmclock.place(SystemMemory())
        self.device = vmclock.VmClock(self.memory, gpa, self.interrupt)
        self.device.start()

    def interrupt(self):
        self.interrupts += 1

    @property
    def page(self):
        return self.memory.slice(self.device.gpa, vmclock.SIZE)

    def counters(self):
        """Sequence count, disruption marker, VM generation counter."""
        return tuple(
            unpack_from(code, self.page, at)[0]
            for code, at in (("<I", 12), ("<Q", 16), ("<Q", 104))
        )


def test_a_new_page_names_itself_and_offers_no_time():
    page = Machine().page
    assert bytes(page[:4]) == b"VCLK"
    assert unpack_from("<IHB", page, 4) == (0x1000, 1, 0xFF)
    assert unpack_from("<Q", page, 24)[0] == 0x300  # generation counter, notification
    assert page[34] == 0  # clock status unknown
    assert not any(page[32:])


def test_the_page_is_a_page():
    machine = Machine()
    assert machine.device.gpa % 4096 == 0
    assert machine.interrupts == 0
    assert machine.counters() == (0, 0, 0)


def test_a_restore_counts_a_disruption_and_a_generation():
    machine = Machine()
    machine.device.restored()
    assert machine.counters() == (2, 1, 1)
    machine.device.restored()
    assert machine.counters() == (4, 2, 2)
    assert machine.interrupts == 2


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_whatever_the_guest_wrote_the_count_is_even_and_another_afterwards(
    sequence, marker, generation
):
    machine = Machine()
    page = machine.memory.writable(machine.device.gpa, vmclock.SIZE)
    for code, at, value in (("<I", 12, sequence), ("<Q", 16, marker), ("<Q", 104, generation)):
        pack_into(code, page, at, value)
    machine.device.restored()
    after = machine.counters()
    assert after[0] % 2 == 0
    assert after[0] != sequence
    assert after[1:] == ((marker + 1) % 2**64, (generation + 1) % 2**64)
