"""What the sync and the async microVM have in common: all that does no I/O."""

from __future__ import annotations

import json
from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any

from pyrovm.sdk._process import Workspace, describe_exit
from pyrovm.sdk.errors import ApiError, VmmExited
from pyrovm.sdk.http1 import Response
from pyrovm.sdk.scrollback import Scrollback
from pyrovm.sdk.spec import (
    DEFAULT_CMDLINE,
    Balloon,
    Drive,
    MemoryHotplug,
    Network,
    Pmem,
    Spec,
    Vsock,
)

START_TIMEOUT = 30.0
STOP_TIMEOUT = 5.0
POLL = 0.0005  # seconds between two looks at whether the API answers


class MicroVMBase:
    """The description of a microVM and the state that both kinds of client keep."""

    def __init__(
        self,
        kernel: str | PathLike[str],
        *,
        initrd: str | PathLike[str] | None = None,
        cmdline: str = DEFAULT_CMDLINE,
        cpus: int = 1,
        memory: int | str = 128,
        smt: bool = False,
        huge_pages: str = "None",
        track_dirty_pages: bool = False,
        drives: Sequence[Drive] = (),
        networks: Sequence[Network] = (),
        pmem: Sequence[Pmem] = (),
        vsock: Vsock | None = None,
        balloon: Balloon | None = None,
        hotplug: MemoryHotplug | None = None,
        entropy: bool = True,
        metadata: Any = None,
        mmds_version: str = "V2",
        extra: dict[str, Any] | None = None,
        id: str = "anonymous-instance",  # noqa: A002 (the API's own word)
        vmm: Sequence[str] | None = None,
    ) -> None:
        """Describe a microVM; nothing is started yet.

        Args:
            kernel: an uncompressed ELF kernel or a bzImage.
            initrd: an initial RAM disk.
            cmdline: the kernel's command line; the devices' words are appended by the VMM.
            cpus: 1 to 32.
            memory: MiB as an int, or a string with a unit such as ``"512M"``.
            smt: show the vCPUs as hyper-threads in pairs.
            huge_pages: ``"None"``, ``"Transparent"`` or ``"2M"``.
            track_dirty_pages: log written pages.
            drives, networks, pmem: devices, in the order in which the guest finds them.
            vsock, balloon, hotplug: at most one of each.
            entropy: a virtio entropy device.
            metadata: JSON for the metadata service, on all networks.
            mmds_version: ``"V1"`` or ``"V2"``.
            extra: further PUT requests by path, sent before the start.
            id: the microVM's id, letters, digits and hyphens.
            vmm: another VMM's command, such as ``["firecracker"]``.
        """
        self.spec = Spec(
            kernel=kernel,
            initrd=initrd,
            cmdline=cmdline,
            cpus=cpus,
            memory=memory,
            smt=smt,
            huge_pages=huge_pages,
            track_dirty_pages=track_dirty_pages,
            drives=tuple(drives),
            networks=tuple(networks),
            pmem=tuple(pmem),
            vsock=vsock,
            balloon=balloon,
            hotplug=hotplug,
            entropy=entropy,
            metadata=metadata,
            mmds_version=mmds_version,
            extra=dict(extra or {}),
        )
        self.id = id
        self._vmm = None if vmm is None else list(vmm)
        self._workspace: Workspace | None = None
        self._scrollback = Scrollback()

    @property
    def workspace(self) -> Workspace:
        """The microVM's folder.

        Raises:
            RuntimeError: it is not started, or closed.
        """
        if self._workspace is None:
            raise RuntimeError("the microVM is not started: call start() first")
        return self._workspace

    @property
    def vsock_path(self) -> str:
        """The Unix socket of the vsock device."""
        if self.spec.vsock is not None and self.spec.vsock.path is not None:
            return str(self.spec.vsock.path)
        return str(self.workspace.vsock)

    @property
    def log(self) -> str:
        """The end of the VMM's log."""
        return self.workspace.log_tail()

    def _exited(self, returncode: int | None) -> VmmExited:
        log = "" if self._workspace is None else self._workspace.log_tail()
        return VmmExited(describe_exit(returncode), returncode, log)

    def _metrics(self) -> dict[str, Any]:
        line = self.workspace.last_metrics()
        parsed: dict[str, Any] = json.loads(line) if line else {}
        return parsed


def checked(method: str, path: str, response: Response) -> Any:
    """The response's JSON.

    Raises:
        ApiError: it is a refusal.
    """
    if not response.ok:
        raise ApiError(method, path, response.status, response.fault)
    return response.json()


def drive_update(
    drive_id: str, path: str | PathLike[str] | None, rate_limiter: dict[str, Any] | None
) -> dict[str, Any]:
    """The body of a PATCH of a drive: what is None stays as it is."""
    body: dict[str, Any] = {"drive_id": drive_id}
    if path is not None:
        body["path_on_host"] = fspath(path)
    if rate_limiter is not None:
        body["rate_limiter"] = rate_limiter
    return body
