"""Memory and disk sizes as people write them: ``512M``, ``2GiB``, ``1.5g``."""

from __future__ import annotations

from pyrovm.errors import ConfigError

UNITS = {"": 1 << 20, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
MIB = 1 << 20


def size_bytes(text: str) -> int:
    """The bytes of a size; a bare number counts MiB.

    Raises:
        ConfigError: it is no size.
    """
    number = text.strip().lower()
    for ending in ("ib", "b"):
        number = number.removesuffix(ending)
    unit = number[-1:] if number[-1:] in UNITS else ""
    try:
        value = float(number.removesuffix(unit))
    except ValueError:
        value = -1.0
    if not 0 <= value < 1 << 40:
        raise ConfigError(
            f"{text!r} is not a size: a number with K, M, G or T is expected, such as 512M"
        )
    return int(value * UNITS[unit])


def size_mib(value: int | str) -> int:
    """A size in whole MiB: an int counts MiB already.

    Raises:
        ConfigError: it is no size, not positive, or no whole number of MiB.
    """
    size = value * MIB if isinstance(value, int) else size_bytes(value)
    if size <= 0 or size % MIB:
        raise ConfigError(f"size {value!r} must be a positive, whole number of MiB")
    return size // MIB
