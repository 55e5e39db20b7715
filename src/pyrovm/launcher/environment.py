"""Variables of the environment that the launcher's jobs read, and that go along with a request.

A name that ends in ``*`` stands for all that begin so.
"""

from __future__ import annotations

FIRECRACKER = ("TZ", "XDG_RUNTIME_DIR", "PYROVM_*")
RUN = ("*",)


def reads(names: tuple[str, ...], name: str) -> bool:
    """Whether a variable is one of these."""
    return any(
        name.startswith(known[:-1]) if known.endswith("*") else name == known for known in names
    )
