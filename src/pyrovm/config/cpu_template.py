"""``/cpu-config``: a custom CPU template, as masks over capabilities, CPUID and MSRs."""

from __future__ import annotations

from pyrovm.config.record import Record
from pyrovm.config.serde.schema import (
    converted,
    optional,
    required,
    sequence,
    struct,
    u32,
)
from pyrovm.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REGISTERS = ("eax", "ebx", "ecx", "edx")
_DIGITS = {2: "01", 10: "0123456789", 16: "0123456789abcdefABCDEF"}


class KvmCapability(Record):
    """Capability ``number`` of KVM is required; with ``is_removed`` no longer."""

    __slots__ = ("is_removed", "number")

    def __init__(self, *, number: int, is_removed: bool = False) -> None:
        self.number = number
        self.is_removed = is_removed


class BitMask(Record):
    """Bits to force: where ``filter`` has a one, the bit of ``value`` replaces the register's."""

    __slots__ = ("filter", "value")

    def __init__(self, *, filter: int, value: int) -> None:  # noqa: A002  the field's own word
        self.filter = filter
        self.value = value

    def apply(self, register: int) -> int:
        """``register`` with the forced bits."""
        return (register & ~self.filter) | self.value


class CpuidRegisterModifier(Record):
    """The mask of one register of a leaf: eax, ebx, ecx or edx."""

    __slots__ = ("bitmap", "register")

    def __init__(self, *, register: str, bitmap: BitMask) -> None:
        self.register = register
        self.bitmap = bitmap


class CpuidLeafModifier(Record):
    """The masks of one CPUID leaf; ``flags`` are those of ``kvm_cpuid_entry2``."""

    __slots__ = ("flags", "leaf", "modifiers", "subleaf")

    def __init__(
        self, *, leaf: int, subleaf: int, flags: int, modifiers: Sequence[CpuidRegisterModifier]
    ) -> None:
        self.leaf = leaf
        self.subleaf = subleaf
        self.flags = flags
        self.modifiers = list(modifiers)


class MsrModifier(Record):
    """The mask of one MSR."""

    __slots__ = ("addr", "bitmap")

    def __init__(self, *, addr: int, bitmap: BitMask) -> None:
        self.addr = addr
        self.bitmap = bitmap


class CpuTemplate(Record):
    """A custom CPU template."""

    __slots__ = ("cpuid_modifiers", "kvm_capabilities", "msr_modifiers")

    def __init__(
        self,
        *,
        kvm_capabilities: Sequence[KvmCapability] = (),
        cpuid_modifiers: Sequence[CpuidLeafModifier] = (),
        msr_modifiers: Sequence[MsrModifier] = (),
    ) -> None:
        self.kvm_capabilities = list(kvm_capabilities)
        self.cpuid_modifiers = list(cpuid_modifiers)
        self.msr_modifiers = list(msr_modifiers)


class _NotANumber(Exception):
    """``kind`` and ``text`` are Rust's name and sentence for what is wrong with a number."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def _parse_u32(text: str, base: int) -> int:
    digits = text.removeprefix("+")
    if not text:
        raise _NotANumber("Empty", "cannot parse integer from empty string")
    if not digits or digits.strip(_DIGITS[base]):
        raise _NotANumber("InvalidDigit", "invalid digit found in string")
    significant = digits.lstrip("0")
    if len(significant) > 32 or int(significant or "0", base) > 0xFFFF_FFFF:
        raise _NotANumber("PosOverflow", "number too large to fit in target type")
    return int(significant or "0", base)


def parse_number(text: str) -> int:
    """A 32-bit number in hexadecimal (``0x``) or binary (``0b``).

    Raises:
        ConfigError: it is something else.
    """
    base = {"0x": 16, "0b": 2}.get(text[:2])
    if base is None:
        raise ConfigError(
            f"No supported number system prefix found in value [{text}]. Make sure to prefix the "
            "number with '0x' for hexadecimal numbers or '0b' for binary numbers."
        )
    try:
        return _parse_u32(text[2:], base)
    except _NotANumber as error:
        raise ConfigError(
            f"Failed to parse string [{text}] as a number for CPU template - "
            f"ParseIntError {{ kind: {error.kind} }}"
        ) from None


def parse_capability(text: str) -> KvmCapability:
    """``"171"`` or ``"!171"``.

    Raises:
        ConfigError: no decimal number.
    """
    is_removed = text.startswith("!")
    try:
        number = _parse_u32(text.removeprefix("!"), 10)
    except _NotANumber as error:
        raise ConfigError(
            f"Failed to parse string [{text}] as a kvm capability - can not convert to numeric: "
            f"{error}"
        ) from None
    return KvmCapability(number=number, is_removed=is_removed)


def bitmap_parser(bits: int) -> Callable[[str], BitMask]:
    """A parser for bitmaps of up to ``bits`` characters ``0 1 x``, most significant first."""

    def parse(text: str) -> BitMask:
        mask = value = position = 0
        for char in reversed(text.removeprefix("0b").encode()):
            if char == ord("_"):
                continue
            if position == bits:
                raise ConfigError(
                    f"Failed to parse string [{text}] as a bitmap - string is too long"
                )
            if char not in b"01x":
                raise ConfigError(
                    f"Failed to parse string [{text}] as a bitmap - unknown character: {char}"
                )
            if char != ord("x"):
                mask |= 1 << position
            if char == ord("1"):
                value |= 1 << position
            position += 1
        return BitMask(filter=mask, value=value)

    return parse


def parse_register(text: str) -> str:
    """The name of a register of CPUID.

    Raises:
        ConfigError: there is no such register.
    """
    if text not in REGISTERS:
        raise ConfigError("Invalid CPUID register. Must be one of [eax, ebx, ecx, edx]")
    return text


_number = converted(parse_number)

_REGISTER_MODIFIER = struct(
    "CpuidRegisterModifier",
    (
        required("register", converted(parse_register)),
        required("bitmap", converted(bitmap_parser(32))),
    ),
    CpuidRegisterModifier,
    ignore_unknown=True,
)
_LEAF_MODIFIER = struct(
    "CpuidLeafModifier",
    (
        required("leaf", _number),
        required("subleaf", _number),
        required("flags", u32),
        required("modifiers", sequence(_REGISTER_MODIFIER)),
    ),
    CpuidLeafModifier,
    ignore_unknown=True,
)
_MSR_MODIFIER = struct(
    "RegisterModifier",
    (required("addr", _number), required("bitmap", converted(bitmap_parser(64)))),
    MsrModifier,
    ignore_unknown=True,
)
CPU_TEMPLATE = struct(
    "CustomCpuTemplate",
    (
        optional("kvm_capabilities", sequence(converted(parse_capability)), ()),
        optional("cpuid_modifiers", sequence(_LEAF_MODIFIER), ()),
        optional("msr_modifiers", sequence(_MSR_MODIFIER), ()),
    ),
    CpuTemplate,
)
