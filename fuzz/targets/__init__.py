"""The targets: one module each, all with the same face.

``one_input(data)``  one experiment; raises whatever is not allowed to happen
``SEEDS``            optional: inputs to begin with
``WORDS``            optional: pieces that the plain mutator puts in
"""

from __future__ import annotations

import importlib
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Target(Protocol):
        """A target's module."""

        def one_input(self, data: bytes) -> None:
            """One experiment."""


def names() -> list[str]:
    """All targets."""
    return sorted(
        path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_")
    )


def load(name: str) -> Target:
    """The module of target ``name``."""
    target: Target = importlib.import_module(f"fuzz.targets.{name}")
    return target


def seeds(target: Target) -> list[bytes]:
    """The inputs that a target's module brings along."""
    return list(getattr(target, "SEEDS", [b""]))


def words(target: Target) -> tuple[bytes, ...]:
    """The words of a target's language."""
    return tuple(getattr(target, "WORDS", ()))
