"""CPU templates applied: bits of CPUID leaves and MSRs forced to 0 or 1.

A template never invents a leaf or an MSR: what the host does not offer cannot be masked, and to
pretend otherwise would leave the caller with a guest that he did not ask for.
"""

from __future__ import annotations

from pyrovm.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pyrovm.arch.x86.cpuid.table import CpuidTable
    from pyrovm.config.cpu_template import CpuidLeafModifier, CpuTemplate, MsrModifier

    Template = CpuTemplate


class TemplateError(ConfigError):
    """The template cannot be used on this host."""


def capability_changes(template: Template) -> list[tuple[int, bool]]:
    """(number, required) of the KVM capabilities that the template adds or takes back."""
    return [(change.number, not change.is_removed) for change in template.kvm_capabilities]


def apply_cpuid(table: CpuidTable, modifiers: Iterable[CpuidLeafModifier]) -> None:
    """Change ``table`` as the template says; normalization comes after and wins.

    Raises:
        TemplateError: the host does not offer a leaf.
    """
    for leaf in modifiers:
        entry = table.get(leaf.leaf, leaf.subleaf)
        if entry is None:
            raise TemplateError(
                f"Failed to apply the CPU template: CPUID leaf {leaf.leaf:#x}, subleaf "
                f"{leaf.subleaf:#x} is not offered by this host's KVM"
            )
        for modifier in leaf.modifiers:
            value = getattr(entry, modifier.register)
            setattr(entry, modifier.register, modifier.bitmap.apply(value))


def apply_msrs(current: Mapping[int, int], modifiers: Iterable[MsrModifier]) -> dict[int, int]:
    """The values to set: those of ``current``, as KVM gave them, changed as the template says.

    Raises:
        TemplateError: KVM does not know an MSR.
    """
    changed: dict[int, int] = {}
    for modifier in modifiers:
        value = changed.get(modifier.addr, current.get(modifier.addr))
        if value is None:
            raise TemplateError(
                f"Failed to apply the CPU template: MSR {modifier.addr:#x} is not offered by this "
                "host's KVM"
            )
        changed[modifier.addr] = modifier.bitmap.apply(value)
    return changed
