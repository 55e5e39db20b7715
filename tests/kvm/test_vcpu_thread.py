"""vCPU threads against a real KVM of any kind: exits, pausing, stopping, what ends a guest."""

import threading

import pytest

from pyrovm.abi import kvm as abi
from pyrovm.machine.bus import Bus
from pyrovm.machine.vcpu_thread import VcpuThread, install_kick_signal
from tests.fakes.tiny_guest import CODE, TinyGuest

pytestmark = pytest.mark.kvm

# mov dx, 0x3f8; l: inc ax; out dx, al; jmp l
COUNT_FOR_EVER = bytes.fromhex("baf803 40 ee ebfc")
SPIN = bytes.fromhex("ebfe")
HALT = bytes.fromhex("f4")
# mov al, 'h'; mov dx, 0x3f8; out; in al, dx; inc al; out; hlt
ECHO = bytes.fromhex("b068 baf803 ee ec fec0 ee f4")
# mov dx, 0x3f8; mov ax, 0x4142; out dx, ax; in ax, dx; out dx, ax; hlt
WORDS = bytes.fromhex("baf803 b84241 ef ed ef f4")
# mov si, 0x1000, where the code itself is; mov cx, 3; mov dx, 0x3f8; cld; rep outsb; hlt
STRING = bytes.fromhex("be0010 b90300 baf803 fc f36e f4")
# mov ax, 0xc000; not an MMIO hole in 64 KiB: mov ds, ax; mov byte [0x8000], 0x5a; mov al, [0x8001]
# mov dx, 0x3f8; out dx, al; hlt    (0xc000 * 16 + 0x8000 = 0xc8000)
MMIO = bytes.fromhex("b800c0 8ed8 c60600805a a00180 baf803 ee f4")


class Recorder:
    """A device that remembers what it was given, and answers with a constant."""

    def __init__(self, answer=0x41):
        self.writes = []
        self.answer = answer
        self.written = threading.Event()

    def read(self, offset, size):
        return self.answer

    def write(self, offset, size, value):
        self.writes.append((offset, size, value))
        self.written.set()


@pytest.fixture
def run():
    """Start ``code`` in a thread; everything is stopped and closed at the end."""
    install_kick_signal()
    made = []

    def start(code, bus=None):
        guest = TinyGuest(code)
        outcome, done, misses = [], threading.Event(), []
        thread = VcpuThread(
            guest.vcpu, bus or Bus(), lambda o: (outcome.append(o), done.set()), misses.append
        )
        thread.start()
        thread.resume()
        made.append((guest, thread))
        return guest, thread, outcome, done, misses

    yield start
    for guest, thread in made:
        thread.stop()
        with guest:
            pass


def test_port_accesses_reach_the_device_and_come_back(run):
    bus, device = Bus(), Recorder()
    bus.add_ports(0x3F8, 8, device)
    _, thread, outcome, done, _ = run(ECHO, bus)
    assert done.wait(30)
    assert device.writes == [(0, 1, ord("h")), (0, 1, 0x42)]
    assert thread.exits[abi.KVM_EXIT_IO] == 3
    assert (thread.io_in.count, thread.io_out.count) == (1, 2)
    assert not outcome[0].ok, "a halted vCPU without an interrupt chip cannot go on"
    assert "halted" in outcome[0].reason


def test_port_accesses_may_be_wide_and_come_as_strings(run):
    bus, device = Bus(), Recorder(0x1234)
    bus.add_ports(0x3F8, 8, device)
    assert run(WORDS, bus)[3].wait(30)
    assert device.writes == [(0, 2, 0x4142), (0, 2, 0x1234)]
    device.writes.clear()
    assert run(STRING, bus)[3].wait(30)
    assert device.writes == [(0, 1, value) for value in STRING[:3]]


def test_memory_accesses_outside_ram_reach_the_device(run):
    bus, device, port = Bus(), Recorder(0x77), Recorder()
    bus.add_mmio(0xC8000, 0x1000, device)
    bus.add_ports(0x3F8, 8, port)
    _, thread, _, done, _ = run(MMIO, bus)
    assert done.wait(30)
    assert device.writes == [(0, 1, 0x5A)]
    assert port.writes == [(0, 1, 0x77)]
    assert (thread.mmio_read.count, thread.mmio_write.count) == (1, 1)


def test_what_nobody_answers_reads_as_zero_and_is_reported(run):
    _, _, _, done, misses = run(ECHO)
    assert done.wait(30)
    assert misses == [
        "write to unknown port 0x3f8",
        "read of unknown port 0x3f8",
        "write to unknown port 0x3f8",
    ]


def test_a_paused_vcpu_stands_still_and_goes_on(run):
    bus, device = Bus(), Recorder()
    bus.add_ports(0x3F8, 8, device)
    guest, thread, _, _, _ = run(COUNT_FOR_EVER, bus)
    assert device.written.wait(30)
    thread.park()
    stood = len(device.writes)
    before = guest.vcpu.regs()
    thread.park()
    assert guest.vcpu.regs() == before
    assert len(device.writes) == stood
    device.written.clear()
    thread.resume()
    assert device.written.wait(30)
    thread.park()
    values = [value for _, _, value in device.writes]
    assert values == [(n + 1) & 0xFF for n in range(len(values))], "no write lost or done twice"


def test_a_guest_that_never_exits_can_be_paused_and_stopped(run):
    guest, thread, _, _, _ = run(SPIN)
    for _ in range(50):
        thread.park()
        assert guest.vcpu.regs().rip == CODE
        thread.resume()
    thread.stop()
    thread.stop()


def test_a_thread_that_has_ended_can_be_paused_resumed_and_stopped(run):
    _, thread, outcome, done, _ = run(HALT)
    assert done.wait(30)
    thread.park()
    thread.resume()
    thread.park()
    thread.stop()
    assert len(outcome) == 1


def test_a_thread_that_was_never_started_can_be_stopped():
    with TinyGuest(SPIN) as guest:
        thread = VcpuThread(guest.vcpu, Bus(), print, print)
        thread.park()
        thread.stop()
        thread.stop()


def test_a_device_that_fails_ends_the_vcpu_with_the_reason(run):
    class Broken(Recorder):
        def write(self, offset, size, value):
            raise ZeroDivisionError("a bug of ours")

    bus = Bus()
    bus.add_ports(0x3F8, 8, Broken())
    _, _, outcome, done, _ = run(ECHO, bus)
    assert done.wait(30)
    assert not outcome[0].ok
    assert "a bug of ours" in outcome[0].reason
