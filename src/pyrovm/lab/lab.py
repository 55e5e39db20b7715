"""The lab: commands on a software-emulated KVM host.

QEMU's TCG emulates an AMD CPU with SVM and nested paging; Debian's kernel with its own kvm-amd
provides a complete and faithful /dev/kvm inside, whatever the machine underneath has.

>>> with Lab() as lab:                                                       # doctest: +SKIP
...     result = lab.run(["python3", "-c", "print(open('/dev/kvm').fileno() > 0)"])
>>> result.status, result.stdout                                             # doctest: +SKIP
(0, b'True\\n')
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from pyrovm.guest import cache
from pyrovm.guest.progress import Progress, Silent
from pyrovm.lab import images, jobdisk, session, snapshot
from pyrovm.lab.emulator import Emulator, kill_orphans
from pyrovm.lab.errors import LabError
from pyrovm.lab.images import Images
from pyrovm.lab.jobdisk import Disks, Tree
from pyrovm.lab.qemu import Machine
from pyrovm.lab.relay import Sink
from pyrovm.lab.session import Order
from pyrovm.lab.snapshot import Snapshot
from pyrovm.lab.terminal import Terminal


@dataclasses.dataclass(frozen=True)
class Result:
    """What a command in the lab left."""

    status: int  # its own; 128 + N where signal N ended it; 124 where it ran too long
    stdout: bytes  # empty where a sink took it
    stderr: bytes
    files: dict[str, bytes]  # what it left in $LAB_OUT, unless ``out`` took it
    timed_out: bool
    seconds: dict[str, float]  # "disk", "started", "ended": since the call
    console: str  # of the lab's kernel

    def check(self) -> Result:
        """Itself.

        Raises:
            LabError: the status is not 0; the message has the end of the output.
        """
        if self.status:
            said = (self.stdout[-3000:] + self.stderr[-5000:]).decode(errors="replace")
            raise LabError(f"status {self.status} in the lab\n{said}\n{self.console[-1000:]}")
        return self

    def json(self) -> Any:
        """The last line of its output, read as JSON; the status is checked."""
        lines = self.check().stdout.decode().strip().splitlines()
        if not lines:
            raise LabError("the command in the lab wrote nothing")
        return json.loads(lines[-1])


class Lab:
    """Machines of one kind.  Every run has a fresh one, which resumes in a third of a second.

    Runs may take place at the same time, from several threads and processes; each stays in the
    thread that called it until it ends.
    """

    def __init__(
        self,
        cpus: int = 1,
        icount: int | None = None,
        *,
        memory_mib: int = 1536,
        peer: bool = False,
        cold: bool = False,
        cpu: str | None = None,
        append: str = "",
        progress: Progress | None = None,
    ) -> None:
        """
        Args:
            icount: virtual time: an instruction takes 2**icount ns.  For one CPU only.
            peer: have QEMU inside, to be compared with.
            cold: boot for every run; neither take nor use a snapshot.
            cpu: QEMU's CPU model and features; an AMD one with SVM by default.
            append: to the kernel's command line.
        """
        if icount is not None and cpus > 1:
            raise LabError("icount counts the instructions of one CPU: cpus must be 1")
        chosen = {"cpu": cpu} if cpu else {}
        self.machine = Machine(cpus, memory_mib, icount, append=append, **chosen)
        self._peer = peer
        self._cold = cold
        self._progress = progress or Silent("")
        self._stack = contextlib.ExitStack()
        self._images: Images | None = None

    def __enter__(self) -> Lab:
        self._images = images.ensure(peer=self._peer, progress=self._progress)
        self._stack.enter_context(self._images.in_use())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._images = None
        self._stack.close()

    def run(
        self,
        argv: Sequence[str],
        *,
        python: bool = False,
        tree: Tree | None = None,
        skip: Collection[str] = (),
        assets: Mapping[str, Path] | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = 300.0,
        silence: float | None = None,
        out: Path | None = None,
        stdout: Sink | None = None,
        stderr: Sink | None = None,
        terminal: Terminal | None = None,
    ) -> Result:
        """Run a command.

        Args:
            python: ``argv`` is a Python script and its arguments, for an interpreter that has
                already started and imported the usual modules: that saves a second.  PYTHONPATH
                is heeded, other PYTHON* variables are not.
            tree: a folder, or files by their names: /job/tree, where the command starts.
            skip: patterns of names in ``tree`` to leave out, as well as .git and the like.
            assets: large files by their names: below /job/assets (``$LAB_ASSETS``), read-only.
                Their disk is made once and kept.
            timeout: seconds, from the command's start; None: no limit.
            silence: seconds without output after which it is as if that time were over.
            out: folder that receives what the command left in ``$LAB_OUT``.
            stdout: is called with each piece of output as it comes; likewise ``stderr``.
            terminal: what the command has instead of the two streams.

        Raises:
            LabError: the lab failed, as opposed to the command.
        """
        if self._images is None:
            raise LabError("the lab is a context manager: with Lab() as lab: ...")
        size = terminal.size if terminal else None
        order = Order(argv, python, env=env or {}, assets=bool(assets), tty=size)
        saved: Snapshot | None = None
        if not self._cold:
            saved = snapshot.ensure(self.machine, self._images, self._progress)
        kept_out, kept_err = bytearray(), bytearray()
        begin = time.monotonic()
        with contextlib.ExitStack() as stack:
            if saved:
                stack.enter_context(saved.in_use())
            sessions = cache.folder("lab", "sessions")
            scratch = stack.enter_context(cache.scratch(sessions, before=kill_orphans))
            disks = jobdisk.make_disks(scratch, tree, skip, assets)
            made = time.monotonic()
            emulator = stack.enter_context(
                self._start(disks, scratch, saved, tty=terminal is not None)
            )
            outcome = session.carry_out(
                emulator,
                order,
                timeout=timeout,
                silence=silence,
                stdout=stdout or kept_out.extend,
                stderr=stderr or kept_err.extend,
                inputs=terminal.attach(emulator) if terminal else None,
            )
            ended = time.monotonic()
            emulator.stop()
            files: dict[str, bytes] = {}
            if outcome.wrote:
                files = _collect(jobdisk.read_output(disks.job, scratch), out)
            return Result(
                outcome.status,
                bytes(kept_out),
                bytes(kept_err),
                files,
                outcome.timed_out,
                {"disk": made - begin, "started": outcome.started - begin, "ended": ended - begin},
                emulator.console(),
            )

    def _start(self, disks: Disks, scratch: Path, saved: Snapshot | None, *, tty: bool) -> Emulator:
        assert self._images
        if saved is None:
            emulator = Emulator(self.machine, self._images, disks, scratch, tty=tty)
            try:
                emulator.wait_ready(snapshot.BOOT_TIMEOUT)
            except BaseException:
                emulator.close()
                raise
            return emulator
        return Emulator(
            self.machine, self._images, disks, scratch, saved.memory, saved.state, tty=tty
        )


def _collect(folder: Path, out: Path | None) -> dict[str, bytes]:
    """The files below ``folder`` by name, or copied to ``out``."""
    if out:
        shutil.copytree(folder, out, symlinks=True, dirs_exist_ok=True)
        return {}
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
