"""What KVM and devices say of a machine, in and out of plain data."""

import pytest

from pyrovm.abi import kvm as abi
from pyrovm.errors import HostError
from pyrovm.kvm import saving

TSC, DEADLINE = 0x10, 0x6E0


class FakeVcpu:
    """MSRs with their values; ``stuck`` ones take no other value."""

    def __init__(self, msrs, stuck=()):
        self.values = dict(msrs)
        self.stuck = set(stuck)
        self.tsc_khz_set = None

    def msrs(self, indices):
        return {index: self.values[index] for index in indices if index in self.values}

    def try_set_msrs(self, values):
        for done, (index, value) in enumerate(values.items()):
            if index in self.stuck or index not in self.values:
                return done
            self.values[index] = value
        return len(values)

    def set_tsc_khz(self, khz):
        if khz == 1:
            raise HostError("KVM_SET_TSC_KHZ: Input/output error (os error 5)", 5)
        self.tsc_khz_set = khz


def test_msrs_that_cannot_be_set_must_have_their_value_already():
    vcpu = FakeVcpu(dict.fromkeys(range(300), 0), stuck={7, 150})
    saving._set_msrs(vcpu, {index: 0 if index in (7, 150) else index for index in range(300)})
    assert vcpu.values[299] == 299
    assert vcpu.values[150] == 0
    with pytest.raises(HostError, match=r"MSR 0x7 was saved with 0x1; this host's KVM has 0x0"):
        saving._set_msrs(vcpu, {6: 6, 7: 1, 8: 8})
    with pytest.raises(HostError, match="has no such MSR"):
        saving._set_msrs(vcpu, {1000: 0})


@pytest.mark.parametrize(
    ("saved", "here", "scaled"),
    [
        (2_000_000, 2_000_000, None),
        (2_000_000, 2_000_499, None),
        (2_000_000, 2_000_501, 2_000_000),
        (2_000_000, 1_999_000, 2_000_000),
        (0, 2_000_000, None),
        (2_000_000, 0, None),
    ],
)
def test_the_tsc_is_scaled_past_250_ppm(saved, here, scaled):
    vcpu = FakeVcpu({})
    saving.scale_tsc(vcpu, saved_khz=saved, here_khz=here)
    assert vcpu.tsc_khz_set == scaled


def test_a_tsc_that_cannot_be_scaled_is_named():
    with pytest.raises(HostError, match="saved at 1 kHz and counts at 2 kHz here, which this CPU"):
        saving.scale_tsc(FakeVcpu({}), saved_khz=1, here_khz=2)


class FakeVm:
    def __init__(self):
        self.set = []

    def set_irqchip(self, chip):
        self.set.append(("chip", chip.chip_id))

    def set_pit2(self, _pit):
        self.set.append("pit")

    def set_clock(self, clock):
        self.set.append(("clock", clock.clock, clock.flags))


def saved_vm(clock_ns, *, realtime=None):
    state = {}
    for name, number in saving.CHIPS.items():
        chip = abi.kvm_irqchip()
        chip.chip_id = number
        state[name] = bytes(chip)
    state["pit2"] = bytes(abi.kvm_pit_state2())
    clock = abi.kvm_clock_data()
    clock.clock = clock_ns
    if realtime is not None:
        clock.flags = abi.KVM_CLOCK_REALTIME | abi.KVM_CLOCK_TSC_STABLE
        clock.realtime = realtime
    state["clock"] = bytes(clock)
    return state


@pytest.mark.parametrize(
    ("realtime", "advance_to", "clock"),
    [
        (None, 0, 1000),
        (990, 0, 1000),
        (None, 500, 1000 + 400),
        (90, 500, 1000 + 410),  # KVM knows better than we when it read the clock
        (None, 50, 1000),  # the host's clock was set back: the guest's never is
    ],
)
def test_the_clock_stands_still_or_catches_up(realtime, advance_to, clock):
    vm = FakeVm()
    saving.restore_vm(vm, saved_vm(1000, realtime=realtime), saved_ns=100, advance_to_ns=advance_to)
    assert vm.set[-1] == ("clock", clock, 0)
    assert vm.set[:-1] == [("chip", 0), ("chip", 1), ("chip", 2), "pit"]


def test_chips_of_another_size_are_refused():
    state = saved_vm(0)
    state["ioapic"] += b"\0"
    with pytest.raises(ValueError, match="ioapic: 521 bytes saved, 520 are needed"):
        saving.restore_vm(FakeVm(), state, saved_ns=0)
