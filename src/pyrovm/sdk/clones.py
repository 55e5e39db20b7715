"""Clones of microVMs as the SDK's users see them, the request behind them, and their processes."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Generic, TypeVar

from pyrovm.sdk._base import MicroVMBase
from pyrovm.sdk._process import Workspace
from pyrovm.sdk.spec import Vsock

T = TypeVar("T", bound=MicroVMBase)

ID_MAX = 64
EXIT_CODE = re.compile(r"exit_code=(\d+)\s*$")
KILL_S = 5.0


@dataclass(frozen=True)
class Clone:
    """What a clone has otherwise than its source.

    ``taps`` and ``drives`` name taps and files by the ids of interfaces and drives; ``netns`` is
    the path of a network namespace, in which the clone finds taps of the same names. A drive that
    can be written and is not named becomes the clone's own: it begins as the source's file is, and
    ends with the clone.
    """

    id: str = ""
    taps: Mapping[str, str] = field(default_factory=dict)
    drives: Mapping[str, str | PathLike[str]] = field(default_factory=dict)
    netns: str | PathLike[str] | None = None


def described(clones: int | Sequence[Clone]) -> list[Clone]:
    """So many clones without anything of their own, or those that are described.

    Raises:
        ValueError: there are none.
    """
    found = [Clone() for _ in range(clones)] if isinstance(clones, int) else list(clones)
    if not found:
        raise ValueError(f"clones: {clones!r} given; at least one is needed")
    return found


def request_of(
    clone: Clone, workspace: Workspace, name: str, *, has_vsock: bool, resume: bool
) -> dict[str, Any]:
    """One clone of ``PUT /branch``; makes the FIFOs in its folder."""
    body: dict[str, Any] = workspace.for_clone()
    body["id"] = name
    body["resume_vm"] = resume
    if clone.taps:
        body["network_overrides"] = [
            {"iface_id": iface, "host_dev_name": tap} for iface, tap in clone.taps.items()
        ]
    if clone.drives:
        body["drive_overrides"] = [
            {"drive_id": drive, "path_on_host": fspath(path)}
            for drive, path in clone.drives.items()
        ]
    if clone.netns is not None:
        body["netns"] = fspath(clone.netns)
    if has_vsock:
        body["vsock_override"] = {"uds_path": str(workspace.vsock)}
    return body


class ClonedProcess:
    """A clone's process, which is not our child; its log has its exit status."""

    def __init__(self, pid: int, lifeline: int, log: Path) -> None:
        """Watch it; ``lifeline`` is closed with this.

        Raises:
            ProcessLookupError: it has ended.
        """
        self.pid = pid
        self.status: int | None = None
        self._lifeline = lifeline
        self._log = log
        self._pidfd = os.pidfd_open(pid)

    def fileno(self) -> int:
        """Readable when it has ended."""
        return self._pidfd

    def poll(self) -> int | None:
        """How it has ended; None while it runs."""
        return self.wait(0.0)

    def wait(self, timeout: float | None) -> int | None:
        """Its status, -9 where its log does not say; None where it still runs."""
        if self.status is None:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            if poll.poll(None if timeout is None else timeout * 1e3):
                found = EXIT_CODE.search(self._log.read_text(errors="replace")[-4000:])
                self.status = int(found[1]) if found else -signal.SIGKILL
        return self.status

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it is there."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def close(self) -> None:
        """Kill it if it runs, and forget it."""
        if self._pidfd >= 0:
            self.send_signal(signal.SIGKILL)
            self.wait(KILL_S)
            os.close(self._pidfd)
            self._pidfd = -1
            os.close(self._lifeline)


class Ends:
    """Our ends of what leads to a clone, held before it is there: its console and its lifeline."""

    def __init__(self, workspace: Workspace) -> None:
        """Open them.

        Raises:
            OSError: there are no descriptors left.
        """
        self._workspace = workspace
        self.lifeline = self.input = self.output = -1
        try:
            # Of what we write to also the other end: it can be opened first then.
            self.lifeline = os.open(workspace.path / "lifeline", os.O_RDWR | os.O_CLOEXEC)
            self.input = os.open(workspace.path / "in", os.O_RDWR | os.O_CLOEXEC)
            self.output = os.open(
                workspace.path / "out", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except BaseException:
            self.close()
            raise

    def process(self, pid: int) -> ClonedProcess:
        """The clone's process, now that it is there; input and output are the caller's.

        Raises:
            ProcessLookupError: it has ended already.
            OSError: there are no descriptors left; all is open here as it was.
        """
        os.set_blocking(self.output, True)
        sole_end = os.open(self._workspace.path / "in", os.O_WRONLY | os.O_CLOEXEC)
        try:
            process = ClonedProcess(pid, self.lifeline, self._workspace.log)
        except BaseException:
            os.close(sole_end)
            raise
        os.close(self.input)
        self.input = sole_end
        return process

    def close(self) -> None:
        """There will be no clone, or it ends now."""
        for fd in (self.lifeline, self.input, self.output):
            if fd >= 0:
                os.close(fd)


class Births(Generic[T]):
    """Copies that are about to be made of ``source``: the microVMs, and what asks for them."""

    def __init__(self, source: T, clones: int | Sequence[Clone], *, resume: bool) -> None:
        """Make their folders.

        Raises:
            ValueError: there are none.
        """
        self.copies: list[T] = []
        self._ends: list[Ends] = []
        bodies = []
        has_vsock = source.spec.vsock is not None
        try:
            for number, clone in enumerate(described(clones)):
                name = (clone.id or f"{source.id}-{number}")[:ID_MAX]
                copy = type(source)(
                    "", entropy=False, id=name, vsock=Vsock() if has_vsock else None
                )
                workspace = copy._workspace = Workspace()
                self.copies.append(copy)
                bodies.append(
                    request_of(clone, workspace, name, has_vsock=has_vsock, resume=resume)
                )
                self._ends.append(Ends(workspace))
        except BaseException:
            self.abandon()
            raise
        self.body = {"clones": bodies}

    def born(self, answer: Any) -> Iterator[tuple[T, ClonedProcess, int, int]]:
        """Each copy with its process, and descriptors of its console that are the caller's."""
        for copy, told in zip(self.copies, answer["clones"], strict=True):
            ends = self._ends[0]
            process = ends.process(told["pid"])
            del self._ends[0]
            yield copy, process, ends.input, ends.output

    def abandon(self) -> None:
        """Remove what was made for those that were not born."""
        for ends in self._ends:
            ends.close()
        for copy in self.copies:
            if copy._workspace is not None:
                copy._workspace.remove()
