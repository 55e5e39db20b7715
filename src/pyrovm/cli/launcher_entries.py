"""What the launcher's children run, and what they need loaded and prepared for it."""

from __future__ import annotations

from pyrovm.launcher.child import Entry
from pyrovm.launcher.environment import FIRECRACKER, RUN

# Everything that a VMM's process may import; rooms are walked through, so that none is forgotten.
ROOMS = (
    *("abi", "host", "config", "config.serde", "memory", "virtio", "arch", "arch.x86"),
    *("arch.x86.acpi", "arch.x86.cpuid", "boot", "devices", "devices.vsock", "mmds", "kvm"),
    *("backends", "machine", "api", "unikernel"),
)
REHEARSALS = 20  # so often runs the code before the interpreter has adapted it for good
OPTIONAL = ("unicorn_",)  # they need what may not be installed
MODULES = (
    *("cli.firecracker", "cli.firecracker_vmm", "cli.firecracker_args", "cli.firecracker_console"),
    *("cli.firecracker_signals", "cli.run_program", "cli.run_program_options"),
    *("image.index", "image.which", "libos.build"),
)


def load() -> None:
    """Import what VMs need, once for all of them; they would do it later, each for itself."""
    import termios  # noqa: F401
    from importlib import import_module
    from os import path, scandir

    root = path.dirname(path.dirname(path.abspath(__file__)))
    for room in ROOMS:
        for entry in scandir(path.join(root, *room.split("."))):
            name, _, suffix = entry.name.rpartition(".")
            if suffix == "py" and not name.startswith(OPTIONAL):
                import_module(f"pyrovm.{room}.{name}")
    for name in MODULES:
        import_module(f"pyrovm.{name}")
    from pyrovm.host import libc

    libc.use_one_arena()
    for _ in range(REHEARSALS):
        _rehearse()


def prepare() -> None:
    """In a child that waits: what would take the time of a start, and can be done before it."""
    _make_vm()
    _rehearse()


def _make_vm() -> None:
    """KVM's empty VM, for which the kernel waits."""
    from pyrovm.errors import PyrovmError
    from pyrovm.kvm import system

    try:
        system.make_spare()
    except PyrovmError:  # the start will say why
        return


def _rehearse() -> None:
    """A start that leads nowhere: what it writes to (mostly reference counts) is copied now."""
    import os

    from pyrovm.cli import firecracker
    from pyrovm.cli.firecracker_vmm import Vmm
    from pyrovm.machine.log import Log

    path = f"\0pyrovm-rehearsal-{os.getpid()}"  # in no file system, and gone when it is closed
    words = ["--api-sock", path, "--id", "rehearsal", "--level", "Info", "--log-path", os.devnull]
    log = Log("rehearsal")
    arguments = firecracker.begin(words, log)
    assert arguments is not None
    vmm = Vmm("rehearsal", log, version=firecracker.VERSION)
    firecracker.grow_fd_table()
    firecracker.make_ready(arguments, vmm)
    vmm.close()
    vmm.loop.close()
    log.close()


def _firecracker(words: list[str]) -> int:
    from pyrovm.cli.firecracker import main

    return main(words)


def _run(words: list[str]) -> int:
    from pyrovm.cli.main import perform

    return perform(["run", *words])


ENTRIES = {"firecracker": Entry(_firecracker, FIRECRACKER), "run": Entry(_run, RUN)}
