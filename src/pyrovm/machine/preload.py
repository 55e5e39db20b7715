"""Getting ready while nobody waits: what a start needs, done between socket and first request.

A VMM that listens has nothing to do until its client speaks.  In that time it imports what every
start will import and has KVM make an empty VM, which on its own takes the kernel milliseconds (it
waits for an RCU grace period).  Each step is one turn of the event loop, so a client that is fast
waits for one step at the most; what was not prepared is done when it is needed, and fails there.
"""

from __future__ import annotations

from sys import modules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyrovm.machine.loop import EventLoop

MODULES = (
    "pyrovm.api.routes",
    "pyrovm.machine.controller",
    "pyrovm.machine.resources",
    "pyrovm.api.puts",
    "pyrovm.host.libc",
    "pyrovm.kvm.system",
    "pyrovm.virtio.mmio",
    "pyrovm.boot.loader",
    "pyrovm.arch.x86.acpi.tables",
    "pyrovm.machine.vcpu_setup",
    "pyrovm.machine.builder",
    "pyrovm.machine.assembly",
    "pyrovm.machine.controller_running",
)
# What the load of a snapshot needs besides, for a VMM that nobody has begun to configure.
MODULES_OF_A_LOAD = (
    "pyrovm.config.snapshot",
    "pyrovm.snapshot.state",
    "pyrovm.snapshot.memory",
    "pyrovm.machine.restoring",
    "pyrovm.machine.loading",
)


def preload(loop: EventLoop, finish: Callable[[], object], names: Sequence[str] = MODULES) -> None:
    """Import modules in the loop, one a turn, then call ``finish``."""
    from importlib import import_module

    waiting = [name for name in reversed(names) if name not in modules]

    def step() -> None:
        if not waiting:
            finish()
            return
        try:
            import_module(waiting.pop())
        except OSError:  # out of descriptors, say: whoever needs the module will find out
            return
        loop.post(step)

    loop.post(step)
