"""Bring vCPUs to the state that a kernel expects at its entry.

One :class:`CpuModel` is made for a machine, and every vCPU gets it with its own APIC id.  The
order matters to KVM: CPUID first, since newer kernels hide MSRs that CPUID does not announce; then
the template's MSRs, which are read, changed and written back; then everything else.  All vCPUs get
the same registers: KVM starts the first and lets the others wait for their start-up IPI, which
sets what they need.
"""

from __future__ import annotations

from pyrovm.abi.kvm import kvm_xcrs
from pyrovm.arch.x86 import msr, regs
from pyrovm.arch.x86.cpuid import topology as topo
from pyrovm.arch.x86.cpuid.normalize import normalize, set_frequency
from pyrovm.arch.x86.cpuid.table import CpuidTable
from pyrovm.arch.x86.cpuid.xsave import X87, offered_xcr0
from pyrovm.arch.x86.lapic import set_local_interrupts
from pyrovm.errors import HostError, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyrovm.config.cpu_template import CpuTemplate, MsrModifier
    from pyrovm.kvm.system import Kvm
    from pyrovm.kvm.vcpu import Vcpu


class CpuModel:
    """The CPU that all vCPUs of one machine have.

    ``table`` holds the CPUID of the vCPU that was set up last; ``msr_modifiers`` are the
    template's.
    """

    __slots__ = ("msr_modifiers", "table", "topology", "xcr0")

    def __init__(
        self, table: CpuidTable, topology: topo.Topology, msr_modifiers: Iterable[MsrModifier] = ()
    ) -> None:
        self.table = table
        self.topology = topology
        self.msr_modifiers = list(msr_modifiers)
        self.xcr0 = offered_xcr0(table)


def build_model(
    kvm: Kvm,
    *,
    vcpu_count: int,
    smt: bool,
    tsc_khz: int,
    template: CpuTemplate | None = None,
    tells_frequency: bool = False,
) -> CpuModel:
    """The model that this host, the configuration and a template add up to.

    ``tsc_khz`` is what :func:`guest_tsc_khz` says of any vCPU; ``tells_frequency`` has the guest
    find it in CPUID too.

    Raises:
        TemplateError: the host does not offer what the template changes.
        HostError: KVM did not tell its CPUID.
    """
    table = CpuidTable(kvm.supported_cpuid())
    modifiers: Iterable[MsrModifier] = ()
    if template is not None:
        from pyrovm.arch.x86.template import apply_cpuid

        apply_cpuid(table, template.cpuid_modifiers)
        modifiers = template.msr_modifiers
    topology = topo.Topology(vcpu_count, smt=smt)
    normalize(table, topology, tsc_khz=tsc_khz)
    if tells_frequency and tsc_khz:
        set_frequency(table, tsc_khz)
    return CpuModel(table, topology, modifiers)


def guest_tsc_khz(vcpu: Vcpu) -> int:
    """The guest's TSC frequency, or 0 on a host that cannot tell."""
    try:
        return vcpu.tsc_khz()
    except HostError:  # an unstable TSC: the guest measures for itself
        return 0


def set_cpuid(vcpu: Vcpu, model: CpuModel) -> None:
    """Give ``vcpu`` the model with its own APIC id."""
    topo.set_apic_id(model.table, model.topology, vcpu.index)
    vcpu.set_cpuid(model.table.entries)


def configure_vcpu(vcpu: Vcpu, model: CpuModel, *, entry: int, pvh: bool, magic: int = 0) -> None:
    """Make a new vCPU ready to start a kernel at guest-physical ``entry``.

    ``pvh``: the 32-bit entry of PVH and multiboot instead of the 64-bit one; ``magic`` is for
    multiboot's EAX.  The descriptor and page tables that
    the registers point to are written by :func:`pyrovm.arch.x86.regs.write_tables`.

    Raises:
        HostError: KVM refused a part of it; the message names the part.
        TemplateError: KVM does not know an MSR of the template.
    """
    set_cpuid(vcpu, model)
    values = dict(msr.BOOT_MSRS)
    if model.msr_modifiers:
        from pyrovm.arch.x86.template import apply_msrs

        current = vcpu.msrs({m.addr for m in model.msr_modifiers})
        values = apply_msrs(current, model.msr_modifiers) | values
    vcpu.set_msrs(values)
    vcpu.set_regs(regs.boot_regs(entry, pvh=pvh, magic=magic))
    vcpu.set_fpu(regs.boot_fpu())
    vcpu.set_sregs(regs.boot_sregs(vcpu.sregs(), pvh=pvh))
    set_xcr0(vcpu, model.xcr0)
    lapic = vcpu.lapic()
    set_local_interrupts(lapic, boot_cpu=vcpu.index == 0)
    vcpu.set_lapic(lapic)


def set_xcr0(vcpu: Vcpu, value: int) -> None:
    """Enable all extended state from the start, as firmware may; a kernel sets XCR0 anyway.

    It is for the sake of nested KVM: QEMU's SVM emulation does not report a guest's XSETBV, so
    that KVM goes on with the XCR0 that it knows.  Left at its reset value of 1, CPUID leaf 0xD
    would keep announcing an area without AVX, and Linux, finding that wrong, would give up XSAVE.
    """
    if value == X87:
        return
    state = kvm_xcrs()
    state.nr_xcrs = 1
    state.xcrs[0].value = value
    vcpu.set_xcrs(state)


def require_capabilities(kvm: Kvm, changes: Iterable[tuple[int, bool]] = ()) -> None:
    """Refuse a KVM without what the machine needs.

    ``changes`` are a template's capabilities: (number, True) is needed as well, (number, False) is
    not needed after all.

    Raises:
        Unsupported: capabilities are missing; the message names them.
    """
    from pyrovm.kvm.system import REQUIRED_CAPABILITIES

    needed = {number: name for name, number in REQUIRED_CAPABILITIES.items()}
    for number, required in changes:
        if required:
            needed.setdefault(number, str(number))
        else:
            needed.pop(number, None)
    missing = [name for number, name in needed.items() if not kvm.check_extension(number)]
    if missing:
        raise Unsupported(f"Required KVM capabilities are missing: {', '.join(missing)}")
