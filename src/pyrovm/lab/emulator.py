"""One QEMU process, with the host's ends of its ports, from its start to its end."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from pathlib import Path
from types import TracebackType

from pyrovm.guest import programs
from pyrovm.lab import qemu
from pyrovm.lab.errors import LabError
from pyrovm.lab.images import Images
from pyrovm.lab.jobdisk import Disks
from pyrovm.lab.qemu import Machine, Monitor, Wiring

_NOISE = "TCG doesn't support requested feature"  # of the CPU model; known and without effect


class Emulator:
    """A running QEMU; a context manager that ends it.

    It dies with the thread that made it (``PR_SET_PDEATHSIG``), also by ``kill -9``.
    """

    def __init__(
        self,
        machine: Machine,
        images: Images,
        disks: Disks,
        scratch: Path,
        memory: Path | None = None,
        state: Path | None = None,
        *,
        record: bool = False,
        tty: bool = False,
    ) -> None:
        """Start it.

        Args:
            scratch: folder for its console and log.
            memory: the file of a snapshot's memory; with ``record`` it is written.
            state: the snapshot's other file, to resume from.
            tty: have a terminal.
        """
        self._scratch = scratch
        with contextlib.ExitStack() as stack:
            ends: dict[str, socket.socket] = {}
            far: dict[str, int] = {}
            for name in ("ctl", "out", "err", "qmp", *(["tty"] if tty else [])):
                ends[name], other = socket.socketpair()
                far[name] = stack.enter_context(other).fileno()
            self.ctl, self.out, self.err = ends["ctl"], ends["out"], ends["err"]
            self.tty = ends.get("tty")
            wiring = Wiring(
                job=disks.job,
                assets=disks.assets,
                console=scratch / "console",
                memory=memory,
                memory_shared=record,
                **far,
            )
            (setpriv,) = programs.require("setpriv")
            argv = [str(setpriv), "--pdeathsig", "KILL", *qemu.command(machine, images, wiring)]
            inherited = list(far.values())
            if state:
                descriptor = os.open(state, os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, descriptor)
                argv += ["-incoming", "defer"]
                inherited.append(descriptor)
            log = stack.enter_context(open(scratch / "qemu.log", "wb"))
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=inherited,
                cwd=scratch,
            )
        self._events = b""
        self._qmp = ends["qmp"]
        try:
            self.monitor = Monitor(self._qmp)
            if state:
                self.monitor.leave_memory_out()
                self.monitor.execute("migrate-incoming", uri=f"fd:{descriptor}")
        except (LabError, OSError) as error:
            failure = self.failure(f"QEMU did not start: {error}")
            self.close()
            raise failure from None

    def send(self, **message: object) -> None:
        """Say something to the agent."""
        try:
            self.ctl.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise self.failure("the lab ended before it had its order") from error

    def receive(self) -> list[dict[str, object]]:
        """What the agent says, whole lines; to be called when ``ctl`` is readable.

        Raises:
            LabError: QEMU ended.
        """
        try:
            data = self.ctl.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            raise self.failure("the lab ended without a status")
        *lines, self._events = (self._events + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def wait_ready(self, timeout: float) -> None:
        """Wait until the agent stands.

        Raises:
            LabError: it does not, in ``timeout`` seconds.
        """
        self.ctl.settimeout(timeout)
        try:
            while not any(event.get("event") == "ready" for event in self.receive()):
                pass
        except TimeoutError:
            raise self.failure(f"the lab was not ready after {timeout:g} s") from None
        self.ctl.settimeout(None)

    def console(self) -> str:
        """What the lab's kernel and init wrote to the serial console."""
        path = self._scratch / "console"
        return path.read_text(errors="replace") if path.exists() else ""

    def failure(self, what: str) -> LabError:
        """An error that shows what QEMU and the console said last."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)  # closing its sockets is the next to last thing that it does
        log = (self._scratch / "qemu.log").read_text(errors="replace").splitlines()
        said = "\n".join(line for line in log if _NOISE not in line)
        status = self._process.poll()
        ended = "" if status is None else f" (QEMU ended with {status})"
        return LabError(f"{what}{ended}\n{said[-1500:]}\n{self.console()[-3000:]}".rstrip())

    def stop(self) -> None:
        """End QEMU: what its disks have, stays."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End QEMU and close the sockets."""
        self.stop()
        for end in (self.ctl, self.out, self.err, self._qmp, self.tty):
            if end:
                end.close()

    def __enter__(self) -> Emulator:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def kill_orphans(scratch: Path) -> None:
    """End QEMU processes that work on a session's folder, whose owner is gone."""
    needle = str(scratch).encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):  # it ended meanwhile, or belongs to somebody else
            words = Path("/proc", entry, "cmdline").read_bytes()
            if needle in words and b"-chardev" in words:
                os.kill(int(entry), 9)
