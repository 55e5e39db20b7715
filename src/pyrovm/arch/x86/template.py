"""CPU templates applied: bits of CPUID leaves and MSRs forced to 0 or 1.

A template never invents a leaf or an MSR: what the host does not offer cannot be masked, and to
pretend otherwise would leave the caller with a guest that he did not ask for.
"""

from __future__ import annotations

from pyrovm.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Protocol

    from pyrovm.arch.x86.cpuid.table import CpuidTable

    class CpuidModifier(Protocol):
        """Bits of one leaf: ``registers`` maps ``eax`` to ``edx`` to (filter, value)."""

        @property
        def leaf(self) -> int: ...
        @property
        def subleaf(self) -> int: ...
        @property
        def registers(self) -> Mapping[str, tuple[int, int]]: ...

    class MsrModifier(Protocol):
        """Bits of one MSR: those set in ``filter`` become those of ``value``."""

        @property
        def addr(self) -> int: ...
        @property
        def filter(self) -> int: ...
        @property
        def value(self) -> int: ...

    class Template(Protocol):
        """A CPU template, static or the caller's own."""

        @property
        def cpuid_modifiers(self) -> Iterable[CpuidModifier]: ...
        @property
        def msr_modifiers(self) -> Iterable[MsrModifier]: ...


class TemplateError(ConfigError):
    """The template cannot be used on this host."""


def apply_cpuid(table: CpuidTable, modifiers: Iterable[CpuidModifier]) -> None:
    """Change ``table`` as the template says; normalization comes after and wins.

    Raises:
        TemplateError: the host does not offer a leaf.
    """
    for modifier in modifiers:
        entry = table.get(modifier.leaf, modifier.subleaf)
        if entry is None:
            raise TemplateError(
                f"Failed to apply the CPU template: CPUID leaf {modifier.leaf:#x}, subleaf "
                f"{modifier.subleaf:#x} is not offered by this host's KVM"
            )
        for register, (mask, value) in modifier.registers.items():
            setattr(entry, register, getattr(entry, register) & ~mask | value & mask)


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
        changed[modifier.addr] = value & ~modifier.filter | modifier.value & modifier.filter
    return changed
