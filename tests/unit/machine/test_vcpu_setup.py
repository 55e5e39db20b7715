"""What is set on a vCPU, and in which order."""

import pytest

from pyrovm.abi import kvm as abi
from pyrovm.arch.x86 import msr
from pyrovm.arch.x86.cpuid.table import CpuidTable
from pyrovm.arch.x86.template import TemplateError
from pyrovm.config.cpu_template import BitMask, CpuTemplate, MsrModifier
from pyrovm.errors import HostError, Unsupported
from pyrovm.kvm.system import REQUIRED_CAPABILITIES
from pyrovm.machine import vcpu_setup
from tests.unit.arch import hosts


class FakeKvm:
    def __init__(self, rows=hosts.INTEL, absent=()):
        self.rows = rows
        self.absent = set(absent)

    def supported_cpuid(self):
        return hosts.table(self.rows).entries

    def check_extension(self, capability):
        return int(capability not in self.absent)


class FakeVcpu:
    """Remembers every call that changes it."""

    def __init__(self, index=0, known_msrs=None):
        self.index = index
        self.known_msrs = known_msrs or {}
        self.calls = []

    def __getattr__(self, name):
        if not name.startswith("set_"):
            raise AttributeError(name)
        return lambda value: self.calls.append((name, value))

    def sregs(self):
        return abi.kvm_sregs()

    def lapic(self):
        return abi.kvm_lapic_state()

    def msrs(self, wanted):
        self.calls.append(("msrs", set(wanted)))
        return {index: self.known_msrs[index] for index in wanted if index in self.known_msrs}

    def tsc_khz(self):
        raise HostError("unstable TSC", 5)

    def value_of(self, name):
        (value,) = [value for call, value in self.calls if call == name]
        return value


def model(rows=hosts.INTEL, template=None, **shape):
    shape = {"vcpu_count": 4, "smt": True, "tsc_khz": 2_500_000} | shape
    return vcpu_setup.build_model(FakeKvm(rows), template=template, **shape)


def test_cpuid_comes_first_and_the_lapic_last():
    vcpu = FakeVcpu()
    vcpu_setup.configure_vcpu(vcpu, model(), entry=0x100200, pvh=False)
    names = [name for name, _ in vcpu.calls]
    assert names == [
        "set_cpuid",
        "set_msrs",
        "set_regs",
        "set_fpu",
        "set_sregs",
        "set_xcrs",
        "set_lapic",
    ]


def test_every_vcpu_has_its_own_id_and_the_same_registers():
    shared = model()
    vcpus = [FakeVcpu(index) for index in range(4)]
    ids = []
    for vcpu in vcpus:
        vcpu_setup.configure_vcpu(vcpu, shared, entry=0x100200, pvh=False)
        ids.append(CpuidTable(vcpu.value_of("set_cpuid")).get(1).ebx >> 24)
    assert ids == [0, 1, 2, 3]
    assert len({bytes(vcpu.value_of("set_regs")) for vcpu in vcpus}) == 1
    assert len({bytes(vcpu.value_of("set_sregs")) for vcpu in vcpus}) == 1


def test_all_offered_extended_state_is_enabled():
    vcpu = FakeVcpu()
    vcpu_setup.configure_vcpu(vcpu, model(hosts.AMD), entry=0, pvh=True)
    xcrs = vcpu.value_of("set_xcrs")
    assert (xcrs.nr_xcrs, xcrs.xcrs[0].xcr, xcrs.xcrs[0].value) == (1, 0, 0x207)


def test_a_cpu_without_xsave_is_not_asked_for_its_xcr0():
    rows = [row if row[0] != 1 else (1, 0, row[2], row[3], 0, row[5]) for row in hosts.INTEL]
    vcpu = FakeVcpu()
    vcpu_setup.configure_vcpu(vcpu, model(rows), entry=0, pvh=True)
    assert "set_xcrs" not in [name for name, _ in vcpu.calls]


def test_a_templates_msrs_are_read_after_cpuid_and_lose_against_the_boot_protocol():
    template = CpuTemplate(
        msr_modifiers=[
            MsrModifier(addr=0x10A, bitmap=BitMask(filter=0xF0, value=0x50)),
            MsrModifier(addr=msr.IA32_MISC_ENABLE, bitmap=BitMask(filter=0xFF, value=0xFF)),
        ]
    )
    vcpu = FakeVcpu(known_msrs={0x10A: 0x1FF, msr.IA32_MISC_ENABLE: 0})
    vcpu_setup.configure_vcpu(vcpu, model(template=template), entry=0, pvh=False)
    assert [name for name, _ in vcpu.calls][:3] == ["set_cpuid", "msrs", "set_msrs"]
    values = vcpu.value_of("set_msrs")
    assert values[0x10A] == 0x15F
    assert values[msr.IA32_MISC_ENABLE] == 1


def test_a_templates_unknown_msr_stops_the_start():
    template = CpuTemplate(
        msr_modifiers=[MsrModifier(addr=0x999, bitmap=BitMask(filter=1, value=1))]
    )
    with pytest.raises(TemplateError, match="0x999"):
        vcpu_setup.configure_vcpu(FakeVcpu(), model(template=template), entry=0, pvh=False)


def test_an_unstable_tsc_has_no_frequency():
    assert vcpu_setup.guest_tsc_khz(FakeVcpu()) == 0


def test_missing_capabilities_are_named():
    kvm = FakeKvm(absent={abi.KVM_CAP_PIT2, abi.KVM_CAP_XCRS})
    with pytest.raises(Unsupported, match="PIT2, XCRS"):
        vcpu_setup.require_capabilities(kvm)
    vcpu_setup.require_capabilities(FakeKvm())


def test_a_template_can_ask_for_less_and_for_more():
    kvm = FakeKvm(absent={abi.KVM_CAP_XCRS, 250})
    vcpu_setup.require_capabilities(kvm, [(abi.KVM_CAP_XCRS, False)])
    with pytest.raises(Unsupported, match="missing: 250"):
        vcpu_setup.require_capabilities(kvm, [(abi.KVM_CAP_XCRS, False), (250, True)])
    everything = [(number, False) for number in REQUIRED_CAPABILITIES.values()]
    vcpu_setup.require_capabilities(FakeKvm(absent=REQUIRED_CAPABILITIES.values()), everything)
