"""Branches of a running machine by fork(2): clones that go on by themselves, snapshots that are
written while the machine runs on.

The machine pauses, tells its registers, and the process forks: guest memory is the child's too,
copied page by page when either writes.  KVM's descriptors are of no use in the child (they answer
EIO there), nor is anything else that the source has open.  So the child closes it all, leaves every
object of the source alone for ever, and builds a machine of its own over the memory.
"""

from __future__ import annotations

import gc
import json
import os
import select
import sys
from time import monotonic, monotonic_ns, sleep, time_ns

from pyrovm.errors import (
    PROCESS_LIMITS,
    ConfigError,
    HostError,
    PyrovmError,
    StateError,
    Unsupported,
    os_error,
)
from pyrovm.host import signals
from pyrovm.machine.saving import save_machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn, Protocol

    from pyrovm.config.branch import CloneParams
    from pyrovm.host.mapping import Mapping
    from pyrovm.machine.machine import Machine
    from pyrovm.machine.ram import MemorySlot, Ram

    class Become(Protocol):
        """The rest of a clone's life, in the forked process."""

        def __call__(self, clone: CloneParams, still: Still, ready: Callable[[], None]) -> int:
            """Be the clone and call ``ready`` when its API can be reached; the exit status."""

    Report = Callable[[dict[str, Any]], None]


OPEN_MAX = 1 << 20
GONE_S = 5.0  # for memory to be given back
READY_S = 60.0  # for all clones of a request, on a busy machine
REPORT_MAX = 4096
EXIT_FAILED = 1
LIMITS = (11, 12, 23, 24)  # EAGAIN, ENOMEM, ENFILE, EMFILE
NO_THREAD = "can't start new thread"  # Python says no more than that
KEPT: list[object] = []  # of the source, in its copies: never to be taken apart


class InheritedMemory:
    """The source's guest memory in a forked process, as a restore wants it."""

    def __init__(self, ram: Ram) -> None:
        self.ranges: Sequence[tuple[int, int]] = list(ram.ranges)
        self._slots: dict[int, MemorySlot] = {
            slot.saved_at: slot for slot in ram.saved_slots() if slot.saved_at is not None
        }

    def map(self, saved_at: int, size: int) -> Mapping:
        """The mapping that is there."""
        mapping = self._slots[saved_at].mapping
        if mapping.size != size:
            raise HostError(f"memory at {saved_at:#x}: {mapping.size} bytes, not {size}")
        return mapping

    def start(self) -> None:
        """It is memory as it is."""


class Still:
    """A machine at the moment of a branch: its ``sections`` as saved, when (ns), its memory."""

    def __init__(self, machine: Machine) -> None:
        """Save it; it is paused.

        Raises:
            PyrovmError: it cannot be saved.
        """
        self.sections = save_machine(machine, goodbye=False)
        self.saved_ns = time_ns()
        self.memory = InheritedMemory(machine.ram)


class Child:
    """A forked process from the source's side: ``pid``, and ``fd`` from which its report comes."""

    def __init__(self, pid: int, fd: int) -> None:
        self.pid = pid
        self.fd = fd
        self._said = b""

    def hear(self) -> dict[str, Any] | None:
        """Its report when it is complete; it has ended without one: an ``error``."""
        data = os.read(self.fd, REPORT_MAX)
        self._said += data
        if data and b"\n" not in self._said:
            return None
        try:
            report: dict[str, Any] = json.loads(self._said)
        except ValueError:
            report = {"error": "its process has ended without a report"}
        return report

    def close(self) -> None:
        """Let it live without us."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def kill(self) -> None:
        """End it, and wait until it is gone: it may have a lock on what the source needs."""
        self.close()
        number, until = signals.SIGKILL, monotonic() + GONE_S
        try:
            while monotonic() < until:
                os.kill(self.pid, number)  # nobody waits for it, so its number goes with it
                number = 0
                sleep(0.001)
        except ProcessLookupError:
            pass


def check(machine: Machine, config: dict[str, Any]) -> None:
    """Whether this machine can be branched at all; ``config`` is what the API prints of it.

    Raises:
        Unsupported: its memory is not copied by fork(2).
        StateError: it has a device of which there cannot be two.
    """
    if machine.ram.huge_pages == "2M":
        raise Unsupported(
            "huge_pages: 2M: memory of reserved huge pages cannot be branched; use Transparent"
        )
    for slot in machine.ram.saved_slots():
        if slot.mapping.origin == "shared":
            raise Unsupported("guest memory is shared with another process (vhost-user)")
        if slot.mapping.origin == "served":
            raise Unsupported("guest memory is provided by a page-fault handler (Uffd)")
    for drive in config["drives"]:
        if drive.get("socket"):
            raise StateError(f"drive {drive['drive_id']}: a vhost-user device cannot be branched")
    for pmem in config["pmem"]:
        if not pmem["read_only"]:
            raise StateError(f"pmem {pmem['id']}: it can be written, and clones would share it")


def check_clone(clone: CloneParams, config: dict[str, Any]) -> None:
    """Whether the clone has what it cannot share with its source.

    Raises:
        ConfigError: something is missing, or is not there to be replaced; says what to give.
    """
    name = f"clone {clone.api_sock}"
    interfaces = [interface["iface_id"] for interface in config["network-interfaces"]]
    replaced = [override.iface_id for override in clone.network_overrides]
    for iface_id in replaced:
        if iface_id not in interfaces:
            raise ConfigError(f"{name}: network_overrides: no interface is called {iface_id}")
    if clone.netns is None:
        for iface_id in interfaces:
            if iface_id not in replaced:
                raise ConfigError(
                    f"{name}: interface {iface_id} needs a tap of its own: name it in "
                    "network_overrides, or a network namespace that has one in netns"
                )
    if config["vsock"] is not None and clone.vsock_override is None:
        raise ConfigError(f"{name}: vsock needs a socket of its own: name it in vsock_override")
    if config["vsock"] is None and clone.vsock_override is not None:
        raise ConfigError(f"{name}: vsock_override: there is no vsock device")
    drives = [drive["drive_id"] for drive in config["drives"]]
    for override in clone.drive_overrides:
        if override.drive_id not in drives:
            raise ConfigError(f"{name}: drive_overrides: no drive is called {override.drive_id}")


def clone_machine(
    machine: Machine, clones: Sequence[CloneParams], become: Become
) -> tuple[int, list[Child]]:
    """Fork a process for each of ``clones``; how long the machine stood still (ns), and they.

    The machine runs again afterwards if it did before, also after an error.

    Raises:
        PyrovmError: there can be no such clone, or not so many; none is left.
    """
    children: list[Child] = []

    def fork_all(still: Still) -> None:
        for clone in clones:

            def live(report: Report, clone: CloneParams = clone) -> int:
                return become(clone, still, lambda: report({"pid": os.getpid()}))

            children.append(_fork(machine, live))

    try:
        return _while_paused(machine, fork_all), children
    except BaseException:
        for child in children:
            child.kill()
        raise


def snapshot_machine(
    machine: Machine, write: Callable[[Still], dict[str, Any]]
) -> tuple[int, Child]:
    """Fork a process that calls ``write`` and reports what that returns; as above.

    Raises:
        PyrovmError: it cannot be forked.
    """
    children: list[Child] = []

    def fork_one(still: Still) -> None:
        def live(report: Report) -> int:
            report(write(still))
            return 0

        children.append(_fork(machine, live))

    return _while_paused(machine, fork_one), children[0]


def wait_ready(children: Sequence[Child]) -> None:
    """Wait until all have said that they run.

    Raises:
        HostError: one has not; all are killed.
    """
    deadline = monotonic() + READY_S
    poll = select.poll()
    waiting = {child.fd: child for child in children}
    for fd in waiting:
        poll.register(fd, select.POLLIN)
    problem = ""
    while waiting and not problem:
        left = deadline - monotonic()
        if left <= 0:
            problem = f"{len(waiting)} of {len(children)} clones are not ready after {READY_S:g} s"
            break
        for fd, _ in poll.poll(left * 1e3):
            report = waiting[fd].hear()
            if report is None:
                continue
            poll.unregister(fd)
            del waiting[fd]
            problem = problem or report.get("error", "")
    for child in children:
        if problem:
            child.kill()
        else:
            child.close()
    if problem:
        raise HostError(problem)


def _while_paused(machine: Machine, act: Callable[[Still], None]) -> int:
    """Pause, save, act, let it go on; for how many ns it did not run."""
    was_paused = machine.is_paused
    for thread in machine.threads:
        # Else the child's copy of the mapping would keep KVM's side of the source alive.
        thread.vcpu.leave_out_of_forks()
    # Children are nobody's to wait for: they end when they end.
    signals.ignore(signals.SIGCHLD)
    began = monotonic_ns()
    machine.pause()
    try:
        act(Still(machine))
    finally:
        if not was_paused:
            machine.resume()
    return monotonic_ns() - began


def _fork(machine: Machine, live: Callable[[Report], int]) -> Child:
    """Start a process that lives by ``live(report)``.

    Raises:
        HostError: there can be no more processes or descriptors.
    """
    try:
        inner, outer = os.pipe2(os.O_CLOEXEC)
    except OSError as error:
        raise HostError.wrap("A clone cannot be made", error) from None
    try:
        pid = os.fork()
    except OSError as error:
        os.close(inner)
        os.close(outer)
        raise HostError.wrap(
            f"A clone's process cannot be forked ({PROCESS_LIMITS})", error
        ) from None
    if pid:
        os.close(outer)
        return Child(pid, inner)
    _live(machine, outer, live)


def _live(machine: Machine, pipe: int, live: Callable[[Report], int]) -> NoReturn:
    """In the forked process."""
    status = EXIT_FAILED

    def report(fields: dict[str, Any]) -> None:
        nonlocal pipe
        if pipe >= 0:
            try:
                os.write(pipe, json.dumps(fields).encode() + b"\n")
            except BrokenPipeError:  # the source has gone meanwhile; it need not know
                pass
            os.close(pipe)
            pipe = -1

    try:
        KEPT.append(sys._getframe())  # and with it all that the source had
        gc.freeze()
        pipe = _leave(machine, pipe)
        status = live(report)
    except BaseException as error:
        report({"error": _why(error)})
    finally:
        os._exit(status & 0xFF)


def _why(error: BaseException) -> str:
    """What has ended a forked process, in a sentence; our own mistakes as they are traced."""
    if isinstance(error, PyrovmError):
        return str(error)
    if isinstance(error, OSError) and error.errno in LIMITS:
        return f"The forked process came to a limit: {os_error(error)}"
    if isinstance(error, RuntimeError) and str(error) == NO_THREAD:
        return f"The forked process cannot start a thread ({PROCESS_LIMITS}, RLIMIT_AS)"
    from traceback import format_exception

    return "".join(format_exception(error))[-REPORT_MAX // 2 :]


def _leave(machine: Machine, pipe: int) -> int:
    """Be a process of its own, with nothing open but the pipe and files of guest memory."""
    kept = {pipe}
    for slot in machine.ram.saved_slots():
        if slot.mapping.base is not None:
            kept.add(slot.mapping.base[0])
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        if fd not in kept:
            os.dup2(null, fd)
    start = 3
    for fd in sorted(fd for fd in kept if fd >= 3):
        os.closerange(start, fd)
        start = fd + 1
    os.closerange(start, OPEN_MAX)
    return pipe
