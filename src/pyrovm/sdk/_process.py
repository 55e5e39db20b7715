"""The VMM process of one microVM: its folder, its command line, its end.

The VMM gets one end of a pipe as its lifeline: when this process ends, however it ends, the pipe
breaks and the VMM ends too, so that no microVM outlives the program that asked for it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

from pyrovm.sdk.spec import Spec

ENTRY = (
    "import sys; sys.path.insert(0, {root!r}); from pyrovm.cli.vmm import main; sys.exit(main())"
)
PREFIX = "pyrovm-"
MADE = ("api.sock", "vmm.log", "metrics.json", "vsock.sock", "in", "out", "lifeline")


def vmm_command() -> list[str]:
    """How to start the VMM of this very installation, isolated from environment and site."""
    root = str(Path(__file__).resolve().parent.parent.parent)
    return [sys.executable, "-I", "-S", "-c", ENTRY.format(root=root)]


def lifeline(fd: int) -> list[str]:
    """What a VMM of ours is told of the lifeline's read end; before all other arguments."""
    return ["--lifeline", str(fd)]


class Workspace:
    """The folder of one microVM: API socket, log, metrics, vsock socket."""

    def __init__(self) -> None:
        clean_stale(Path(tempfile.gettempdir()))
        # The owner's pid is in the name: whoever comes later can tell a living folder from a
        # dead one.
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self.api_socket = self.path / "api.sock"
        self.log = self.path / "vmm.log"
        self.metrics = self.path / "metrics.json"
        self.vsock = self.path / "vsock.sock"
        try:
            for file in (self.log, self.metrics):
                file.touch(mode=0o600)
        except BaseException:
            self.remove()
            raise

    def arguments(self, spec_id: str) -> list[str]:
        """The VMM's arguments."""
        return [
            *("--api-sock", str(self.api_socket)),
            *("--id", spec_id),
            *("--log-path", str(self.log)),
            *("--metrics-path", str(self.metrics)),
        ]

    def for_clone(self) -> dict[str, str]:
        """What a clone is told of its folder; its console's two FIFOs are made here."""
        paths = {"stdin_path": self.path / "in", "stdout_path": self.path / "out"}
        paths["lifeline_path"] = self.path / "lifeline"
        for path in paths.values():
            os.mkfifo(path, 0o600)
        paths |= {
            "api_sock": self.api_socket,
            "log_path": self.log,
            "metrics_path": self.metrics,
        }
        return {field: str(path) for field, path in paths.items()}

    def log_tail(self, size: int = 4000) -> str:
        """The end of the VMM's log."""
        try:
            return self.log.read_text(errors="replace")[-size:]
        except OSError:
            return ""

    def last_metrics(self) -> str:
        """The last whole line of the metrics file, empty where there is none."""
        lines = self.metrics.read_text(errors="replace").splitlines()
        return lines[-1] if lines else ""

    def remove(self) -> None:
        """Delete the folder and all in it."""
        for name in MADE:  # without a descriptor: that there are no more may be the reason
            with contextlib.suppress(OSError):  # not there; what cannot be removed stays
                (self.path / name).unlink()
        try:
            self.path.rmdir()
        except OSError:  # there is something else in it
            shutil.rmtree(self.path, ignore_errors=True)


def clean_stale(parent: Path) -> None:
    """Remove the folders of programs that were killed before they could do it."""
    for folder in parent.glob(f"{PREFIX}[0-9]*-*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        try:
            if pid.isdigit() and folder.stat().st_uid == os.getuid() and not _alive(int(pid)):
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # somebody else was faster
            continue


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def describe_exit(returncode: int | None) -> str:
    """What an exit status of the VMM means, in words."""
    if returncode is None:
        return "the VMM is still running"
    if returncode == 0:
        return "the guest stopped the microVM"
    if returncode < 0:
        return f"the VMM was killed by signal {-returncode}"
    return f"the VMM ended with status {returncode}"


__all__ = ["Spec", "Workspace", "clean_stale", "describe_exit", "lifeline", "vmm_command"]
