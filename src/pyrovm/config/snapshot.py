"""``/snapshot/create`` and ``/snapshot/load``: where state and memory are."""

from __future__ import annotations

from pyrovm.config.record import Record
from pyrovm.config.serde.schema import (
    boolean,
    enum,
    optional,
    path,
    path_string,
    required,
    sequence,
    string,
    struct,
)
from pyrovm.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class SnapshotCreateParams(Record):
    """``snapshot_type`` is Full or Diff."""

    __slots__ = ("mem_file_path", "snapshot_path", "snapshot_type")

    def __init__(
        self, *, snapshot_path: str, mem_file_path: str, snapshot_type: str = "Full"
    ) -> None:
        self.snapshot_type = snapshot_type
        self.snapshot_path = snapshot_path
        self.mem_file_path = mem_file_path


class MemoryBackend(Record):
    """``backend_type`` is File or Uffd."""

    __slots__ = ("backend_path", "backend_type")

    def __init__(self, *, backend_path: str, backend_type: str) -> None:
        self.backend_path = backend_path
        self.backend_type = backend_type


class NetworkOverride(Record):
    """Another tap for a saved interface."""

    __slots__ = ("host_dev_name", "iface_id")

    def __init__(self, *, iface_id: str, host_dev_name: str) -> None:
        self.iface_id = iface_id
        self.host_dev_name = host_dev_name


class VsockOverride(Record):
    """Another Unix socket for the saved vsock device."""

    __slots__ = ("uds_path",)

    def __init__(self, *, uds_path: str) -> None:
        self.uds_path = uds_path


class SnapshotLoadParams(Record):
    """A load; ``mem_backend`` is set whichever way the memory was named.

    ``is_deprecated`` tells whether an old field was used.
    """

    __slots__ = (
        "clock_realtime",
        "huge_pages",
        "is_deprecated",
        "mem_backend",
        "network_overrides",
        "resume_vm",
        "snapshot_path",
        "track_dirty_pages",
        "vsock_override",
    )

    def __init__(
        self,
        *,
        snapshot_path: str,
        mem_backend: MemoryBackend,
        track_dirty_pages: bool = False,
        resume_vm: bool = False,
        network_overrides: Sequence[NetworkOverride] = (),
        vsock_override: VsockOverride | None = None,
        clock_realtime: bool = False,
        huge_pages: str = "Snapshot",
        is_deprecated: bool = False,
    ) -> None:
        self.snapshot_path = snapshot_path
        self.mem_backend = mem_backend
        self.track_dirty_pages = track_dirty_pages
        self.resume_vm = resume_vm
        self.network_overrides = list(network_overrides)
        self.vsock_override = vsock_override
        self.clock_realtime = clock_realtime
        self.huge_pages = huge_pages
        self.is_deprecated = is_deprecated


def _load_params(
    *,
    snapshot_path: str,
    mem_file_path: str | None,
    mem_backend: MemoryBackend | None,
    enable_diff_snapshots: bool | None,
    track_dirty_pages: bool,
    resume_vm: bool,
    network_overrides: Sequence[NetworkOverride],
    vsock_override: VsockOverride | None,
    clock_realtime: bool,
    huge_pages: str,
) -> SnapshotLoadParams:
    if mem_file_path is not None:
        if mem_backend is not None:
            raise ConfigError(
                "too many fields: either `mem_backend` or `mem_file_path` exclusively is required"
            )
        mem_backend = MemoryBackend(backend_path=mem_file_path, backend_type="File")
    elif mem_backend is None:
        raise ConfigError("missing field: either `mem_backend` or `mem_file_path` is required")
    return SnapshotLoadParams(
        snapshot_path=snapshot_path,
        mem_backend=mem_backend,
        track_dirty_pages=track_dirty_pages or bool(enable_diff_snapshots),
        resume_vm=resume_vm,
        network_overrides=network_overrides,
        vsock_override=vsock_override,
        clock_realtime=clock_realtime,
        huge_pages=huge_pages,
        is_deprecated=mem_file_path is not None or enable_diff_snapshots is not None,
    )


SNAPSHOT_CREATE = struct(
    "CreateSnapshotParams",
    (
        optional("snapshot_type", enum("Diff", "Full"), "Full"),
        required("snapshot_path", path),
        required("mem_file_path", path),
    ),
    SnapshotCreateParams,
)
_MEMORY_BACKEND = struct(
    "MemBackendConfig",
    (required("backend_path", path), required("backend_type", enum("File", "Uffd"))),
    MemoryBackend,
)
NETWORK_OVERRIDE = struct(
    "NetworkOverride",
    (required("iface_id", string), required("host_dev_name", path_string)),
    NetworkOverride,
    ignore_unknown=True,
)
VSOCK_OVERRIDE = struct(
    "VsockOverride", (required("uds_path", path_string),), VsockOverride, ignore_unknown=True
)
SNAPSHOT_LOAD = struct(
    "LoadSnapshotConfig",
    (
        required("snapshot_path", path),
        optional("mem_file_path", path),
        optional("mem_backend", _MEMORY_BACKEND),
        optional("enable_diff_snapshots", boolean),
        optional("track_dirty_pages", boolean, False),
        optional("resume_vm", boolean, False),
        optional("network_overrides", sequence(NETWORK_OVERRIDE), ()),
        optional("vsock_override", VSOCK_OVERRIDE),
        optional("clock_realtime", boolean, False),
        optional("huge_pages", enum("Snapshot", "None", "Transparent", "2M"), "Snapshot"),
    ),
    _load_params,
)
