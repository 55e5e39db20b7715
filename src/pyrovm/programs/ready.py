"""For a Python program in a VM: say that it is ready to be branched, and hear of the branch.

It stands alone, so it can be copied into an image; where templates are made with ``setup``, it is
there by this name.

>>> from pyrovm.programs.ready import after, ready
>>> @after
... def connect():
...     ...
>>> arguments = ready()  # returns in each branch
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    Hook = TypeVar("Hook", bound=Callable[[], object])

DEVICE = "/dev/pyrovm"
PIECE = 1 << 14

_before: list[Callable[[], object]] = []
_after: list[Callable[[], object]] = []


def before(hook: Hook) -> Hook:
    """Have ``hook()`` called before the program rests, the last one first."""
    _before.append(hook)
    return hook


def after(hook: Hook) -> Hook:
    """Have ``hook()`` called in each branch before :func:`ready` returns."""
    _after.append(hook)
    return hook


def ready() -> list[str]:
    """Say that this is where to branch; in each branch, its arguments.

    Where nobody waits for that, the program goes on, with none.

    Raises:
        OSError: it does not run in a VM of pyrovm.
    """
    for hook in reversed(_before):
        hook()
    sys.stdout.flush()
    sys.stderr.flush()
    _tidy()
    device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.write(device, b"ready")
        text = b"".join(iter(lambda: os.read(device, PIECE), b""))
    finally:
        os.close(device)
    reseed()
    for hook in _after:
        hook()
    return [os.fsdecode(line) for line in text.split(b"\n")[1:-1]]


def _tidy() -> None:
    """What is there now is no garbage: a collection in a branch would copy all its pages."""
    import gc

    gc.collect()
    gc.freeze()


def reseed() -> None:
    """Have the generators of random numbers that were seeded before the branch differ from others.

    The operating system's (os.urandom, secrets, uuid4) do so by themselves. What cannot change is
    the order of sets of text, which the interpreter has chosen at its start.
    """
    modules: dict[str, Any] = dict(sys.modules)
    if "random" in modules:
        modules["random"].seed()
    if "ssl" in modules:
        modules["ssl"].RAND_add(os.urandom(32), 32.0)
    if "numpy.random" in modules:
        modules["numpy.random"].seed()


def prepare(setup: str) -> dict[str, Any]:
    """Run ``setup`` as the program's main module, and be ready; the names that it has defined."""
    names = sys.modules["__main__"].__dict__
    exec(compile(setup, "<setup>", "exec", dont_inherit=True), names)
    ready()
    return names
