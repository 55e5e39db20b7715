"""``PUT /branch``: a VMM's process copied, its copies as VMMs of their own.

Imported with the first branch.  What is here runs in the source, but for :meth:`_be`, which is the
rest of a clone's life.
"""

from __future__ import annotations

import os
import stat
from time import monotonic

from pyrovm.errors import ConfigError, HostError, PyrovmError, StateError
from pyrovm.machine import branching
from pyrovm.machine.log import Log, open_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyrovm.cli.firecracker_vmm import Vmm
    from pyrovm.config.branch import BranchParams, CloneParams
    from pyrovm.config.snapshot import SnapshotCreateParams
    from pyrovm.machine.branching import Child, Still
    from pyrovm.machine.resources import Resources
    from pyrovm.machine.restoring import Saved

CLONE_NEWNET = 0x40000000
NR_SETNS = 308
NS_PER_US = 1000
SNAPSHOTS_MAX = 64  # of which the outcome is remembered


class MachineBrancher:
    """The branches of one VMM."""

    def __init__(self, vmm: Vmm) -> None:
        # What clones need is loaded once, in their source.
        import pyrovm.config.vm_file
        import pyrovm.machine.loading
        import pyrovm.machine.restoring
        import pyrovm.machine.snapshots  # noqa: F401

        self._vmm = vmm
        self._snapshots: list[dict[str, Any]] = []

    def branch(self, machine: Any, resources: Resources, params: BranchParams) -> dict[str, Any]:
        """Clone or save the machine, as :class:`Brancher` has it.

        Raises:
            PyrovmError: it cannot be; the machine is as before, and nothing is left.
        """
        config = resources.to_json()
        branching.check(machine.machine, config)
        if params.snapshot is not None:
            return self._snapshot(machine.machine, config, params.snapshot)
        for clone in params.clones:
            branching.check_clone(clone, config)
        self._check_drives(machine, config, params)
        made = _new_paths(params)
        try:
            pause_ns, children = branching.clone_machine(
                machine.machine,
                params.clones,
                lambda clone, still, ready: self._be(clone, config, still, ready),
            )
            branching.wait_ready(children)
        except PyrovmError:
            for path in made:
                if os.path.exists(path):
                    os.unlink(path)
            raise
        return {
            "pause_us": pause_ns // NS_PER_US,
            "clones": [
                {"id": clone.id, "api_sock": clone.api_sock, "pid": child.pid}
                for clone, child in zip(params.clones, children, strict=True)
            ],
        }

    # ------------------------------------------------------------------ drives

    def _check_drives(self, machine: Any, config: dict[str, Any], params: BranchParams) -> None:
        """A drive that both could write to, and that is not copied, must stand still."""
        for drive in config["drives"]:
            name = drive["drive_id"]
            if drive["is_read_only"]:
                continue
            if machine.devices.blocks[name].has_own_disk:
                raise StateError(
                    f"drive {name} is this clone's own disk: a clone of it would not have what was "
                    "written to it; a machine whose drives are read-only can be branched again"
                )
            shared = any(name not in _overridden(clone) for clone in params.clones)
            if shared and not machine.machine.is_paused and not _can_clone(drive["path_on_host"]):
                raise StateError(
                    f"drive {name} can be written: pause the machine for as long as it has clones, "
                    "name another file for each clone in drive_overrides, or have it on a file "
                    "system that shares blocks between files (Btrfs, XFS)"
                )

    def check_resume(self, resources: Resources) -> None:
        """As :class:`Brancher` has it.

        Raises:
            StateError: a clone reads a file that the machine would write to.
        """
        from pyrovm.backends.disk_layer import is_base

        for drive in resources.drives:
            config = drive.config
            device: Any = drive.device
            if config.is_read_only or config.path_on_host is None or device.has_own_disk:
                continue
            try:
                fd = os.open(config.path_on_host, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:  # it is not there any more; its own descriptor is nobody's base
                continue
            try:
                if is_base(fd):
                    raise StateError(
                        f"drive {config.drive_id}: clones of this machine read its file, which "
                        "must not change before they have ended"
                    )
            finally:
                os.close(fd)

    # --------------------------------------------------------------- snapshots

    def snapshots(self) -> list[dict[str, Any]]:
        """What has become of each, the oldest first."""
        return [dict(entry) for entry in self._snapshots]

    def _snapshot(
        self, machine: Any, config: dict[str, Any], params: SnapshotCreateParams
    ) -> dict[str, Any]:
        def write(still: Still) -> dict[str, Any]:
            from pyrovm.machine.snapshots import write_snapshot

            file = write_snapshot(machine, still.sections, config, params)
            return {"written_bytes": file.written_bytes}

        pause_ns, child = branching.snapshot_machine(machine, write)
        entry: dict[str, Any] = {
            "snapshot_path": params.snapshot_path,
            "mem_file_path": params.mem_file_path,
            "pid": child.pid,
            "state": "writing",
        }
        self._snapshots.append(entry)
        del self._snapshots[:-SNAPSHOTS_MAX]
        self._follow(child, entry)
        return {"pause_us": pause_ns // NS_PER_US, "pid": child.pid}

    def _follow(self, child: Child, entry: dict[str, Any]) -> None:
        """Note in ``entry`` what becomes of the writer."""
        loop, began = self._vmm.loop, monotonic()

        def heard(_events: int) -> None:
            report = child.hear()
            if report is None:
                return
            loop.unwatch(child.fd)
            child.close()
            entry.update(report)
            entry["state"] = "failed" if "error" in report else "written"
            entry["seconds"] = round(monotonic() - began, 3)
            if "error" in report:
                self._vmm.log.error(f"Snapshot {entry['snapshot_path']}: {report['error']}")

        loop.watch(child.fd, heard)

    # ------------------------------------------------------------------ clones

    def _be(
        self, clone: CloneParams, config: dict[str, Any], still: Still, ready: Callable[[], None]
    ) -> int:
        from pyrovm.cli.firecracker import say_exit
        from pyrovm.cli.firecracker_vmm import Vmm
        from pyrovm.machine.controller_fault import Fault

        source = self._vmm
        log = Log(clone.id)
        vmm = Vmm(clone.id, log, version=source.version)
        vmm.vhost, vmm.boot_timer = source.vhost, source.boot_timer
        vmm.mmds_size_limit = source.mmds_size_limit
        vmm.own_disks = frozenset(
            drive["drive_id"] for drive in config["drives"] if not drive["is_read_only"]
        ) - _overridden(clone)
        if clone.log_path is not None:
            from pyrovm.config.logger import LoggerConfig

            log.update(LoggerConfig(log_path=clone.log_path))
        vmm.watch_signals()
        try:
            _take_streams(clone)
            if clone.lifeline_path is not None:
                _watch_lifeline(clone.lifeline_path)
            if clone.metrics_path is not None:
                from pyrovm.config.metrics import MetricsConfig

                vmm.metrics.configure(MetricsConfig(metrics_path=clone.metrics_path))
            if clone.netns is not None:
                _enter_network(clone.netns)
            vmm.open_api(clone.api_sock, source.payload_limit)
            try:
                vmm.adopt(
                    lambda resources: _configure(resources, clone, config, still),
                    resume=clone.resume_vm,
                )
            except Fault as fault:
                raise HostError(str(fault)) from None
            ready()
            code = vmm.run()
        finally:
            vmm.close()
        say_exit(log, code)
        return code


def _configure(
    resources: Resources, clone: CloneParams, config: dict[str, Any], still: Still
) -> Saved:
    """Open what the clone needs of the host, as its source has it but for the overrides."""
    from pyrovm.config.snapshot import MemoryBackend, SnapshotLoadParams
    from pyrovm.machine import loading
    from pyrovm.machine.restoring import Saved

    for drive in config["drives"]:
        for override in clone.drive_overrides:
            if override.drive_id == drive["drive_id"]:
                drive["path_on_host"] = override.path_on_host
    params = SnapshotLoadParams(
        snapshot_path="",
        mem_backend=MemoryBackend(backend_path="", backend_type="File"),
        track_dirty_pages=config["machine-config"]["track_dirty_pages"],
        network_overrides=clone.network_overrides,
        vsock_override=clone.vsock_override,
    )
    document = loading.overridden(config, params)
    loading.configure_machine(resources, document, params)
    loading.configure_devices(resources, document)
    return Saved(
        still.sections,
        still.memory,
        saved_ns=still.saved_ns,
        advance=True,
        is_branch=True,
    )


def _take_streams(clone: CloneParams) -> None:
    """Have the files that the clone was given as its console.

    Raises:
        HostError: one cannot be opened.
    """
    for number, field, path in (
        (0, "stdin_path", clone.stdin_path),
        (1, "stdout_path", clone.stdout_path),
    ):
        if path is None:
            continue
        try:
            # Of a FIFO both ends: it has no end while we live, and nobody need be there first.
            fd = open_output(path) if number or _is_fifo(path) else os.open(path, os.O_RDONLY)
        except OSError as error:
            raise HostError.wrap(f"{field}: {path}", error) from None
        os.dup2(fd, number)
        os.close(fd)


def _watch_lifeline(path: str) -> None:
    """End when nobody can write there any more.

    Raises:
        HostError: it cannot be opened.
    """
    from _thread import start_new_thread

    from pyrovm.cli.vmm import watch

    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(fd, True)
    except OSError as error:
        raise HostError.wrap(f"lifeline_path: {path}", error) from None
    start_new_thread(watch, (fd,))


def _is_fifo(path: str) -> bool:
    return stat.S_ISFIFO(os.stat(path).st_mode)


def _overridden(clone: CloneParams) -> frozenset[str]:
    return frozenset(override.drive_id for override in clone.drive_overrides)


def _can_clone(path: str) -> bool:
    from pyrovm.backends.disk_layer import can_clone

    try:
        return can_clone(path)
    except OSError as error:
        raise HostError.wrap(f"The drive's file {path} cannot be read", error) from None


def _new_paths(params: BranchParams) -> list[str]:
    """The sockets that clones will make, none of which is there.

    Raises:
        ConfigError: one is there already.
    """
    found = []
    for clone in params.clones:
        paths = {"api_sock": clone.api_sock}
        if clone.vsock_override is not None:
            paths["vsock_override"] = clone.vsock_override.uds_path
        for field, path in paths.items():
            if os.path.lexists(path):
                raise ConfigError(f"{field}: {path} exists already")
            found.append(path)
    return found


def _enter_network(path: str) -> None:
    """Move to a network namespace, for good.

    Raises:
        HostError: it is none, or we may not.
    """
    from pyrovm.host.libc import syscall

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscall(NR_SETNS, fd, CLONE_NEWNET)
        finally:
            os.close(fd)
    except OSError as error:
        raise HostError.wrap(f"netns: {path} cannot be entered", error) from None
