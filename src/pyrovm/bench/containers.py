"""One program in a container, started by what is usual: namespaces by hand, or a runtime of OCI."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyrovm.bench import peers
from pyrovm.bench.peers import Peer

NAMESPACES = ("mount", "uts", "ipc", "pid", "network")
_HYBRID = Path("/sys/fs/cgroup/unified")
_numbers = itertools.count()


def config(root: Path, argv: list[str]) -> dict[str, Any]:
    """A bundle's config.json (runtime-spec 1.0): all namespaces, no capability, no limit."""
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": argv,
            "env": ["PATH=/"],
            "cwd": "/",
            "noNewPrivileges": True,
        },
        "root": {"path": str(root), "readonly": True},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": [{"type": name} for name in NAMESPACES]},
    }


class Container:
    """A static program as the only file of containers; a context manager."""

    def __init__(self, program: str, *arguments: str) -> None:
        self._stack = contextlib.ExitStack()
        self._program = program
        self._arguments = arguments
        self._enter: list[str] = []

    def __enter__(self) -> Container:
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.root = self.folder / "root"
        for name in ("proc", "dev"):
            (self.root / name).mkdir(parents=True)
        shutil.copy(self._program, self.root / "program")
        self.argv = ["/program", *self._arguments]
        text = json.dumps(config(self.root, self.argv))
        (self.folder / "config.json").write_text(text)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def command(self, peer: Peer) -> list[str]:
        """The command line that starts it once."""
        name = str(peer.path)
        if peer is peers.UNSHARE:
            flags = ("--mount", "--uts", "--ipc", "--net", "--pid", "--fork")
            return [name, *flags, f"--root={self.root}", *self.argv]
        if peer is peers.BUBBLEWRAP:
            mounts = ("--ro-bind", str(self.root), "/", "--proc", "/proc")
            return [name, "--unshare-all", *mounts, *self.argv]
        state = ("--root", str(self.folder / "state"))
        # A number of our own process: runtimes keep their containers' cgroups by these names.
        run = ("run", "--bundle", str(self.folder), f"bench-{os.getpid()}-{next(_numbers)}")
        if peer is peers.CRUN:
            return [*self._without_hybrid(), name, *state, *run]
        if peer is peers.GVISOR:
            return [name, *state, "--network=none", "--ignore-cgroups", *run]
        return [name, *state, *run]

    def _without_hybrid(self) -> list[str]:
        """crun refuses the mix of both versions of cgroups: hide one of them from it."""
        if not _HYBRID.exists():
            return []
        if not self._enter:
            holder = self._stack.enter_context(_holding(f"umount {_HYBRID}"))
            nsenter = shutil.which("nsenter") or "nsenter"
            self._enter = [nsenter, f"--mount=/proc/{holder}/ns/mnt"]
        return self._enter


@contextlib.contextmanager
def _holding(command: str) -> Iterator[int]:
    """A process in a mount namespace of its own, in which ``command`` has been carried out."""
    script = f"{command} && echo ready && exec cat"
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        try:
            if process.stdout.readline() != b"ready\n":
                raise RuntimeError(f"this failed in a mount namespace: {command}")
            yield process.pid
        finally:
            process.stdin.close()
