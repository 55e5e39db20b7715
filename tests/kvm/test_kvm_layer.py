"""The KVM objects against a real KVM of any kind: one property each."""

import select
from time import monotonic

import pytest

from pyrovm.abi import kvm as abi
from pyrovm.errors import HostError, Unsupported
from pyrovm.host.eventfd import EventFd
from pyrovm.host.mapping import anonymous
from pyrovm.kvm.system import Kvm
from tests.fakes.tiny_guest import CODE, TinyGuest

pytestmark = pytest.mark.kvm

OUT = bytes.fromhex("e4f1 f4")  # in al, 0xf1; hlt
# mov byte [0x9000], 0x5a; in al, 0xf1
STORE = bytes.fromhex("c60600905a e4f1")
# mov al, 7; out 0xf2, al; in al, 0xf1
DOORBELL = bytes.fromhex("b007 e6f2 e4f1")
SPIN = bytes.fromhex("ebfe")


@pytest.fixture
def kvm():
    with Kvm() as kvm:
        yield kvm


@pytest.fixture
def vm(kvm):
    vm = kvm.create_vm()
    yield vm
    vm.close()


@pytest.fixture
def page():
    mapping = anonymous(0x4000)
    yield mapping
    mapping.close()


def eventually(condition):
    """Whether ``condition()`` becomes true within 10 s."""
    deadline = monotonic() + 10
    while not condition():
        if monotonic() > deadline:
            return False
        select.select([], [], [], 0.001)
    return True


def pending(eventfd):
    return bool(select.select([eventfd.fd], [], [], 0)[0])


def test_all_required_capabilities_are_there(kvm):
    assert kvm.missing_capabilities() == []


def test_a_device_that_is_no_kvm_says_so(tmp_path):
    with pytest.raises(Unsupported, match=r"nothing.*no KVM; 'pyrovm doctor'"):
        Kvm(str(tmp_path / "nothing"))
    with pytest.raises(HostError):
        Kvm("/dev/null")


def test_memory_slots_come_and_go(vm, page):
    vm.set_memory(0, 0x10000, 0x4000, page.address)
    with pytest.raises(HostError, match="slot 1 at 0x11000"):
        vm.set_memory(1, 0x11000, 0x1000, page.address)
    vm.set_memory(0, 0x10000, 0, page.address)
    vm.set_memory(1, 0x11000, 0x1000, page.address)


def test_a_guests_store_is_seen_by_the_host():
    with TinyGuest(STORE) as guest:
        guest.vcpu.run()
        assert guest.vcpu.exit_reason[0] == abi.KVM_EXIT_IO
        assert guest.ram.view[0x9000] == 0x5A


def test_a_store_to_read_only_memory_is_an_exit_and_changes_nothing():
    with TinyGuest(STORE) as guest:
        page = anonymous(0x1000)
        guest.vm.set_memory(0, 0, 0, 0)
        guest.vm.set_memory(0, 0, 0x9000, guest.ram.address)
        guest.vm.set_memory(1, 0x9000, 0x1000, page.address, abi.KVM_MEM_READONLY)
        guest.vcpu.run()
        run = guest.vcpu.run_struct
        assert guest.vcpu.exit_reason[0] == abi.KVM_EXIT_MMIO
        assert (run.mmio_phys_addr, run.mmio_is_write, run.mmio_data[0]) == (0x9000, 1, 0x5A)
        assert page.view[0] == 0
        page.close()


def test_the_dirty_log_names_the_pages_written_since_it_was_last_read():
    with TinyGuest(STORE, flags=abi.KVM_MEM_LOG_DIRTY_PAGES) as guest:
        guest.vm.dirty_log(0)
        guest.vcpu.run()
        written = guest.vm.dirty_log(0)[0]
        assert written & 1 << 9
        # With nested paging, a page that is mapped for the first time counts as well: the code's.
        assert written & ~(1 << 9 | 1 << (CODE >> 12)) == 0
        assert guest.vm.dirty_log(0)[0] == 0


def test_the_dirty_log_can_be_started_late():
    with TinyGuest(STORE) as guest:
        guest.vm.set_dirty_log(0, True)
        guest.vcpu.run()
        assert guest.vm.dirty_log(0)[0] & 1 << 9
        guest.vm.set_dirty_log(0, False)
        with pytest.raises(HostError, match="KVM_GET_DIRTY_LOG"):
            guest.vm.dirty_log(0)


def test_an_ioeventfd_takes_a_port_write_without_an_exit():
    with TinyGuest(DOORBELL) as guest:
        bell = EventFd()
        guest.vm.ioeventfd(bell.fd, 0xF2, 1, pio=True, datamatch=7)
        guest.vcpu.run()
        run = guest.vcpu.run_struct
        assert (run.io_port, run.io_direction) == (0xF1, abi.KVM_EXIT_IO_IN)
        assert bell.drain() == 1
        bell.close()


def test_an_ioeventfd_leaves_other_values_to_the_vmm():
    with TinyGuest(DOORBELL) as guest:
        bell = EventFd()
        guest.vm.ioeventfd(bell.fd, 0xF2, 1, pio=True, datamatch=8)
        guest.vcpu.run()
        assert guest.vcpu.run_struct.io_port == 0xF2
        assert not pending(bell)
        bell.close()


def test_an_irqfd_raises_its_line_at_the_pic(vm):
    vm.create_irqchip()
    line = EventFd()
    vm.irqfd(line.fd, 5)
    before = vm.irqchip(abi.KVM_IRQCHIP_PIC_MASTER).chip_pic_irr
    line.signal()  # the kernel delivers from a work queue
    assert eventually(lambda: vm.irqchip(abi.KVM_IRQCHIP_PIC_MASTER).chip_pic_irr != before)
    assert vm.irqchip(abi.KVM_IRQCHIP_PIC_MASTER).chip_pic_irr & ~before == 1 << 5
    line.close()


def test_immediate_exit_returns_before_the_guest_runs():
    with TinyGuest(SPIN) as guest:
        guest.vcpu.set_immediate_exit(True)
        with pytest.raises(InterruptedError):
            guest.vcpu.run()
        assert guest.vcpu.regs().rip == CODE


def test_registers_come_back_as_they_were_set():
    with TinyGuest(SPIN) as guest:
        vcpu = guest.vcpu
        registers = vcpu.regs()
        registers.rax, registers.r15, registers.rflags = 0x1122334455667788, 2**64 - 1, 2
        vcpu.set_regs(registers)
        assert vcpu.regs() == registers
        sregs = vcpu.sregs()
        sregs.cr2, sregs.fs.base = 0xDEAD000, 0x1234000
        vcpu.set_sregs(sregs)
        assert vcpu.sregs() == sregs
        fpu = vcpu.fpu()
        fpu.fcw = 0x27F
        vcpu.set_fpu(fpu)
        assert vcpu.fpu().fcw == 0x27F
        debug = vcpu.debugregs()
        debug.db[1] = 0x4000
        vcpu.set_debugregs(debug)
        assert vcpu.debugregs().db[1] == 0x4000


@pytest.mark.parametrize("name", ["xcrs", "vcpu_events", "mp_state", "xsave", "lapic"])
def test_other_state_can_be_written_back(vm, name):
    vm.create_irqchip()
    vcpu = vm.create_vcpu(0)
    state = getattr(vcpu, name)()
    getattr(vcpu, f"set_{name}")(state)
    assert getattr(vcpu, name)() == state
    vcpu.close()


def test_the_second_vcpu_waits_for_its_start(vm):
    vm.create_irqchip()
    vcpus = [vm.create_vcpu(index) for index in range(2)]
    assert [vcpu.mp_state().mp_state for vcpu in vcpus] == [
        abi.KVM_MP_STATE_RUNNABLE,
        abi.KVM_MP_STATE_UNINITIALIZED,
    ]
    for vcpu in vcpus:
        vcpu.close()


def test_msrs_come_back_as_they_were_set_and_unknown_ones_are_left_out():
    with TinyGuest(SPIN) as guest:
        guest.vcpu.set_msrs({0x174: 8, 0xC0000082: 0x1000})
        found = guest.vcpu.msrs([0x174, 0xDEAD_0000, 0xC0000082])
        assert found == {0x174: 8, 0xC0000082: 0x1000}


def test_a_refused_msr_is_named():
    with TinyGuest(SPIN) as guest, pytest.raises(HostError, match="0xdead0000"):
        guest.vcpu.set_msrs({0x174: 8, 0xDEAD_0000: 1})


def test_listed_msrs_can_be_read(kvm):
    listed = kvm.msr_index_list()
    assert 0x10 in listed
    with TinyGuest(SPIN) as guest:
        assert 0x10 in guest.vcpu.msrs(listed)


def test_timer_and_clock_can_be_written_back(vm):
    vm.create_irqchip()
    vm.create_pit2()
    state = vm.pit2()
    vm.set_pit2(state)
    assert vm.pit2().flags == state.flags
    clock = vm.clock()
    clock.clock, clock.flags = 1_000_000_000, 0
    vm.set_clock(clock)
    assert vm.clock().clock >= 1_000_000_000


def test_interrupt_routes_are_taken(vm):
    vm.create_irqchip()
    route = abi.kvm_irq_routing_entry()
    route.gsi, route.type = 24, abi.KVM_IRQ_ROUTING_MSI
    route.u_msi_address_lo, route.u_msi_data = 0xFEE00000, 0x40
    vm.set_gsi_routing([route])
    route.type = 77
    with pytest.raises(HostError, match="KVM_SET_GSI_ROUTING"):
        vm.set_gsi_routing([route])
