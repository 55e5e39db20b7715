"""Which of the two ``pyrovm run`` is meant: apart, since it is asked before anything is loaded."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def is_kernel_run(argv: Sequence[str]) -> bool:
    """Whether a Linux guest is meant."""
    return has_option(argv, "--kernel")


def has_option(argv: Sequence[str], name: str) -> bool:
    """Whether it is among the options: before ``--``, and no program comes first."""
    if not argv or not argv[0].startswith("-"):
        return False
    words = argv[: argv.index("--")] if "--" in argv else argv
    return any(word.partition("=")[0] == name for word in words)
