"""Snapshots of the booted lab: one for each kind of machine on each set of images.

A snapshot is the machine's memory as a file, which every session maps copy-on-write, and the
state of its devices: resuming copies nothing, and sessions share what they do not change.
"""

from __future__ import annotations

import contextlib
import hashlib
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

from pyrovm.guest import cache
from pyrovm.guest.progress import Progress
from pyrovm.lab import jobdisk, qemu
from pyrovm.lab.emulator import Emulator
from pyrovm.lab.errors import LabError
from pyrovm.lab.images import Images
from pyrovm.lab.qemu import Machine, Wiring

_KEPT = 4  # for each set of images; about 160 MB each
BOOT_TIMEOUT = 180.0  # seconds; a boot takes 3 to 6, with icount more


class Snapshot:
    """A finished snapshot."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.memory = folder / "memory"
        self.state = folder / "state"
        self.used = folder.with_suffix(".used")

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep other processes from removing it.

        Raises:
            LabError: one has just done it.
        """
        with cache.locked(self.used, shared=True):
            if not self.state.exists():
                raise LabError(f"{self.folder} was removed meanwhile; try again")
            yield


def key(machine: Machine, images: Images) -> str:
    """What a snapshot depends on, hashed; the images are told by its place."""
    words = qemu.command(machine, images, Wiring(memory=Path("-")))
    return hashlib.sha256("\0".join([qemu.identity(), *words]).encode()).hexdigest()[:16]


def ensure(machine: Machine, images: Images, progress: Progress) -> Snapshot:
    """The snapshot of this kind of machine, taken now if there is none.

    Raises:
        LabError: the lab does not boot; the message has the end of its console.
    """
    name = f"snapshot-{key(machine, images)}"
    snapshot = Snapshot(images.folder / name)
    with cache.locked(images.folder / f".{name}"):
        if not snapshot.state.exists():
            progress.step("booting the lab for a snapshot")
            _take(machine, images, snapshot)
            progress.done("snapshot taken")
    cache.touch(snapshot.folder)
    prune(images)
    return snapshot


def _take(machine: Machine, images: Images, snapshot: Snapshot) -> None:
    with cache.scratch(images.folder) as scratch:
        part = Snapshot(scratch / "made")
        part.folder.mkdir()
        jobdisk.empty_disk(part.memory, machine.memory_mib << 20)
        disks = jobdisk.make_disks(scratch)
        with Emulator(machine, images, disks, scratch, part.memory, record=True) as emulator:
            emulator.wait_ready(BOOT_TIMEOUT)
            monitor = emulator.monitor
            monitor.leave_memory_out()
            monitor.execute("migrate", uri=f"exec:cat > {shlex.quote(str(part.state))}")
            while (state := monitor.execute("query-migrate").get("status")) != "completed":
                if state in ("failed", "cancelled"):
                    raise LabError(f"no snapshot: migration {state}")
                time.sleep(0.02)
        cache.remove(snapshot.folder)
        part.folder.rename(snapshot.folder)


def prune(images: Images, keep: int = _KEPT) -> None:
    """Remove all but the ``keep`` snapshots used last; one just being opened stays."""
    for folder in cache.oldest_first(images.folder.glob("snapshot-*/"))[: -keep or None]:
        old = Snapshot(folder)
        with cache.unless_locked(old.used) as free:
            if free:
                cache.remove(folder)
                old.used.unlink(missing_ok=True)
