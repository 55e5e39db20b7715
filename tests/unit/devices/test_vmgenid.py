"""The generation id: there before the guest runs, another one after a restore."""

from pyrovm.arch.x86.system_memory import SystemMemory
from pyrovm.devices import vmgenid
from pyrovm.memory.guest_memory import GuestMemory, Region


class Machine:
    def __init__(self):
        self.memory = GuestMemory([Region(0, memoryview(bytearray(1 << 20)))])
        self.interrupts = 0
        self.ids = iter(bytes([n]) * 16 for n in range(1, 9))
        gpa = vmgenid.place(SystemMemory())
        self.device = vmgenid.VmGenId(self.memory, gpa, self.interrupt, lambda n: next(self.ids))

    def interrupt(self):
        self.interrupts += 1

    def current(self):
        return self.memory.read(self.device.gpa, 16)


def test_the_first_id_is_written_without_an_interrupt():
    machine = Machine()
    machine.device.start()
    assert machine.current() == b"\x01" * 16
    assert machine.interrupts == 0


def test_every_restore_makes_a_new_id_and_tells_the_guest():
    machine = Machine()
    machine.device.start()
    machine.device.restored()
    machine.device.restored()
    assert machine.current() == b"\x03" * 16
    assert machine.interrupts == 2


def test_the_id_is_eight_byte_aligned_and_nothing_around_it_changes():
    machine = Machine()
    machine.device.start()
    gpa = machine.device.gpa
    assert gpa % 8 == 0
    assert machine.memory.read(gpa - 16, 16) == bytes(16)
    assert machine.memory.read(gpa + 16, 16) == bytes(16)


def test_a_new_id_is_part_of_the_next_diff_snapshot():
    machine = Machine()
    machine.memory.track_dirty(True)
    machine.device.restored()
    assert machine.memory.take_dirty() == {machine.device.gpa >> 12}
