"""KVM takes the CPUs that are made of its own CPUID, for every shape of machine."""

import pytest

from pyrovm.arch.x86 import msr
from pyrovm.arch.x86.cpuid.table import CpuidTable
from pyrovm.config.cpu_template import (
    BitMask,
    CpuidLeafModifier,
    CpuidRegisterModifier,
    CpuTemplate,
    MsrModifier,
)
from pyrovm.kvm.system import Kvm
from pyrovm.machine import vcpu_setup

pytestmark = pytest.mark.kvm


@pytest.fixture
def machine():
    """A VM with chips, and what makes vCPUs in it; everything is closed at the end."""
    with Kvm() as kvm:
        vm, vcpus = kvm.create_vm(), []
        vm.create_irqchip()

        def configured(count, *, smt=False, pvh=False, template=None):
            vcpus.extend(vm.create_vcpu(index) for index in range(count))
            model = vcpu_setup.build_model(
                kvm,
                vcpu_count=count,
                smt=smt,
                tsc_khz=vcpu_setup.guest_tsc_khz(vcpus[0]),
                template=template,
            )
            for vcpu in vcpus:
                vcpu_setup.configure_vcpu(vcpu, model, entry=0x1000000, pvh=pvh)
            return vcpus, model

        yield configured
        for vcpu in vcpus:
            vcpu.close()
        vm.close()


@pytest.mark.parametrize(("count", "smt"), [(1, False), (2, True), (3, False), (8, True)])
@pytest.mark.parametrize("pvh", [False, True])
def test_every_vcpu_is_ready_at_the_entry(machine, count, smt, pvh):
    vcpus, _ = machine(count, smt=smt, pvh=pvh)
    for vcpu in vcpus:
        assert vcpu.regs().rip == 0x1000000
        assert vcpu.sregs().cr3 == (0 if pvh else 0x9000)
        assert vcpu.msrs([msr.MTRR_DEF_TYPE])[msr.MTRR_DEF_TYPE] == 0x806
        assert vcpu.lapic().regs[0x351] & 7 == 7
        assert vcpu.lapic().regs[0x361] & 7 == 4


def test_the_extended_state_that_cpuid_offers_is_enabled(machine):
    (vcpu,), model = machine(1)
    assert vcpu.xcrs().xcrs[0].value == model.xcr0


def test_a_template_changes_cpuid_and_msrs(machine):
    # PREFETCHW is offered nearly everywhere and missed by nobody; bit 3 of TSC_AUX likewise.
    template = CpuTemplate(
        cpuid_modifiers=[
            CpuidLeafModifier(
                leaf=0x80000001,
                subleaf=0,
                flags=0,
                modifiers=[
                    CpuidRegisterModifier(register="ecx", bitmap=BitMask(filter=0x100, value=0))
                ],
            )
        ],
        msr_modifiers=[MsrModifier(addr=0x277, bitmap=BitMask(filter=0xFF, value=0x04))],
    )
    (vcpu,), model = machine(1, template=template)
    assert not model.table.get(0x80000001).ecx & 0x100
    assert vcpu.msrs([0x277])[0x277] & 0xFF == 0x04


def test_the_host_has_a_vendor_and_a_model_that_templates_can_be_checked_against():
    with Kvm() as kvm:
        host = CpuidTable(kvm.supported_cpuid())
    assert host.vendor in ("GenuineIntel", "AuthenticAMD")
    assert host.model[0] >= 6


def test_the_msrs_of_a_snapshot_can_be_read_and_set_again(machine):
    (vcpu,), _ = machine(1)
    with Kvm() as kvm:
        wanted = msr.saved_msrs(kvm.msr_index_list())
    values = vcpu.msrs(wanted)
    assert list(values) == [index for index in wanted if index in values]
    vcpu.set_msrs(values)
