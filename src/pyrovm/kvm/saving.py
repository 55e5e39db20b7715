"""What KVM keeps of a VM and its vCPUs, read into plain data and written into fresh ones.

Plain data: dicts, lists, ints, and KVM's structures as bytes.  Memory is not part of it.

The order is KVM's own contract.  Reading: the run state first, since asking for it delivers what
waits at the local APIC; the pending events last, since the other calls may change them.  Writing:
CPUID first, since it decides which registers there are; the local APIC before the MSRs, since the
TSC deadline is dropped where the timer's mode does not ask for one; the events last.
"""

from __future__ import annotations

from pyrovm.abi import kvm as abi
from pyrovm.arch.x86.cpuid.table import CpuidTable
from pyrovm.arch.x86.msr import IA32_TSC, IA32_TSC_DEADLINE
from pyrovm.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeVar

    from pyrovm.abi.layout import Struct
    from pyrovm.kvm.vcpu import Vcpu
    from pyrovm.kvm.vm import Vm

    S = TypeVar("S", bound=Struct)

CHIPS = {
    "pic_master": abi.KVM_IRQCHIP_PIC_MASTER,
    "pic_slave": abi.KVM_IRQCHIP_PIC_SLAVE,
    "ioapic": abi.KVM_IRQCHIP_IOAPIC,
}
TSC_TOLERANCE_PPM = 250  # of frequencies that count as equal: NTP slews no further than 500
MSRS_AT_ONCE = 100


def save_vcpu(vcpu: Vcpu, msr_indices: Sequence[int]) -> dict[str, Any]:
    """The state of a vCPU that stands still; ``msr_indices`` as ``saved_msrs`` ordered them.

    What the TSC counts is saved, how fast is not: the caller knows (0 where the host does not).

    Raises:
        HostError: KVM did not tell a part of it.
    """
    state: dict[str, Any] = {"index": vcpu.index, "mp_state": bytes(vcpu.mp_state())}
    state["regs"] = bytes(vcpu.regs())
    state["sregs"] = bytes(vcpu.sregs())
    state["xsave"] = vcpu.xsave()
    state["xcrs"] = bytes(vcpu.xcrs())
    state["debugregs"] = bytes(vcpu.debugregs())
    state["lapic"] = bytes(vcpu.lapic())
    state["cpuid"] = vcpu.cpuid
    msrs: dict[int, int] = {}
    for at in range(0, len(msr_indices), MSRS_AT_ONCE):
        msrs |= vcpu.msrs(msr_indices[at : at + MSRS_AT_ONCE])
    # A deadline that has passed reads as 0, whether its interrupt arrived or not; one too many
    # costs the guest nothing, one too few its clock.
    if msrs.get(IA32_TSC_DEADLINE) == 0 and IA32_TSC in msrs:
        msrs[IA32_TSC_DEADLINE] = msrs[IA32_TSC]
    state["msrs"] = [[index, msrs[index]] for index in msr_indices if index in msrs]
    state["vcpu_events"] = bytes(vcpu.vcpu_events())
    return state


def restore_vcpu(vcpu: Vcpu, state: dict[str, Any], *, tsc_passed: int = 0) -> None:
    """Make a new vCPU, whose TSC is scaled already, what :func:`save_vcpu` found.

    Its TSC goes on from ``tsc_passed`` later.

    Raises:
        HostError: KVM refused a part of it; the message names the part.
        KeyError, TypeError, ValueError: this is no saved vCPU.
    """
    vcpu.set_cpuid(CpuidTable.from_state(state["cpuid"]).entries)
    vcpu.set_mp_state(_struct(abi.kvm_mp_state, state, "mp_state"))
    vcpu.set_regs(_struct(abi.kvm_regs, state, "regs"))
    vcpu.set_sregs(_struct(abi.kvm_sregs, state, "sregs"))
    vcpu.set_xsave(state["xsave"])
    vcpu.set_xcrs(_struct(abi.kvm_xcrs, state, "xcrs"))
    vcpu.set_debugregs(_struct(abi.kvm_debugregs, state, "debugregs"))
    vcpu.set_lapic(_struct(abi.kvm_lapic_state, state, "lapic"))
    msrs = {int(index): int(value) for index, value in state["msrs"]}
    if tsc_passed > 0 and IA32_TSC in msrs:
        msrs[IA32_TSC] += tsc_passed
    _set_msrs(vcpu, msrs)
    vcpu.set_vcpu_events(_struct(abi.kvm_vcpu_events, state, "vcpu_events"))


def _struct(kind: type[S], state: dict[str, Any], name: str) -> S:
    data = state[name]
    if len(data) != kind.SIZE:
        raise ValueError(f"{name}: {len(data)} bytes saved, {kind.SIZE} are needed")
    return kind.from_bytes(data)


def _set_msrs(vcpu: Vcpu, values: dict[int, int]) -> None:
    """Set MSRs in order; one that is refused must have its value already.

    KVM lists MSRs that it lets nobody write, or only with other hardware.
    """
    items = list(values.items())
    while items:
        part = items[:MSRS_AT_ONCE]
        done = vcpu.try_set_msrs(dict(part))
        if done < len(part):
            index, value = part[done]
            found = vcpu.msrs([index]).get(index)
            if found != value:
                has = "has no such MSR" if found is None else f"has {found:#x} there"
                raise HostError(
                    f"MSR {index:#x} was saved with {value:#x}; this host's KVM {has} and refuses "
                    "to change it"
                )
            done += 1
        items = items[done:]


def scale_tsc(vcpu: Vcpu, *, saved_khz: int, here_khz: int) -> None:
    """Have the TSC count as fast as where it was saved, if this host's differs noticeably.

    Raises:
        HostError: it does, and this CPU cannot scale it.
    """
    if not saved_khz or not here_khz:  # unstable: its guests do not use it either
        return
    if abs(here_khz - saved_khz) * 1_000_000 > TSC_TOLERANCE_PPM * saved_khz:
        try:
            vcpu.set_tsc_khz(saved_khz)
        except HostError as error:
            raise HostError(
                f"the TSC was saved at {saved_khz} kHz and counts at {here_khz} kHz here, which "
                f"this CPU cannot scale: {error}",
                error.errno,
            ) from None


def save_vm(vm: Vm) -> dict[str, Any]:
    """Interrupt chips, timer and clock.

    Raises:
        HostError: KVM did not tell a part of it.
    """
    state: dict[str, Any] = {name: bytes(vm.irqchip(chip)) for name, chip in CHIPS.items()}
    state["pit2"] = bytes(vm.pit2())
    state["clock"] = bytes(vm.clock())
    return state


def restore_vm(vm: Vm, state: dict[str, Any], *, saved_ns: int, advance_to_ns: int = 0) -> None:
    """Make the chips and the clock of a VM with all its vCPUs what :func:`save_vm` found.

    The clock goes on from where it stood ``saved_ns`` after 1970; with ``advance_to_ns`` it is
    moved on as if it had run until then.

    Raises:
        HostError: KVM refused a part of it.
        KeyError, TypeError, ValueError: this is no saved VM.
    """
    for name in CHIPS:
        vm.set_irqchip(_struct(abi.kvm_irqchip, state, name))
    vm.set_pit2(_struct(abi.kvm_pit_state2, state, "pit2"))
    saved = _struct(abi.kvm_clock_data, state, "clock")
    clock = abi.kvm_clock_data()
    clock.clock = saved.clock
    if advance_to_ns:
        base = saved.realtime if saved.flags & abi.KVM_CLOCK_REALTIME else saved_ns
        clock.clock += max(0, advance_to_ns - base)
    vm.set_clock(clock)
