"""``/branch``, which Firecracker has not: copies of a running machine by fork(2).

::

    {"clones": [{"api_sock": "/run/one.sock", "id": "one", "vsock_override": {"uds_path": "v"}}]}
    {"snapshot": {"snapshot_path": "state", "mem_file_path": "memory"}}

A clone is a machine in a process of its own, a snapshot is written by one; the source goes on.
"""

from __future__ import annotations

from pyrovm.config.record import Record
from pyrovm.config.serde.schema import (
    boolean,
    optional,
    path,
    path_string,
    required,
    sequence,
    string,
    struct,
)
from pyrovm.config.snapshot import (
    NETWORK_OVERRIDE,
    VSOCK_OVERRIDE,
    NetworkOverride,
    SnapshotCreateParams,
    VsockOverride,
)
from pyrovm.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

CLONES_MAX = 1024  # of one request


class DriveOverride(Record):
    """Another file for a drive of a clone; it is written to as any drive's."""

    __slots__ = ("drive_id", "path_on_host")

    def __init__(self, *, drive_id: str, path_on_host: str) -> None:
        self.drive_id = drive_id
        self.path_on_host = path_on_host


class CloneParams(Record):
    """One clone.

    ``api_sock`` is where its API will be.  A drive that can be written and has no override becomes
    a disk of its own over the source's file.  ``netns`` is the path of a network namespace in which
    the clone has its taps, under the same names unless there are overrides.  ``stdin_path`` and
    ``stdout_path`` are files or FIFOs for the console and, without ``log_path``, for the log.
    ``lifeline_path`` is a FIFO: when nobody has it open for writing any more, the clone ends.
    """

    __slots__ = (
        "api_sock",
        "drive_overrides",
        "id",
        "lifeline_path",
        "log_path",
        "metrics_path",
        "netns",
        "network_overrides",
        "resume_vm",
        "stdin_path",
        "stdout_path",
        "vsock_override",
    )

    def __init__(
        self,
        *,
        api_sock: str,
        id: str = "anonymous-instance",  # noqa: A002  (the API's name)
        resume_vm: bool = True,
        network_overrides: Sequence[NetworkOverride] = (),
        vsock_override: VsockOverride | None = None,
        drive_overrides: Sequence[DriveOverride] = (),
        netns: str | None = None,
        stdin_path: str | None = None,
        stdout_path: str | None = None,
        log_path: str | None = None,
        metrics_path: str | None = None,
        lifeline_path: str | None = None,
    ) -> None:
        self.api_sock = api_sock
        self.id = id
        self.resume_vm = resume_vm
        self.network_overrides = list(network_overrides)
        self.vsock_override = vsock_override
        self.drive_overrides = list(drive_overrides)
        self.netns = netns
        self.stdin_path = stdin_path
        self.stdout_path = stdout_path
        self.log_path = log_path
        self.metrics_path = metrics_path
        self.lifeline_path = lifeline_path


class BranchParams(Record):
    """Clones, or a snapshot."""

    __slots__ = ("clones", "snapshot")

    def __init__(
        self,
        *,
        clones: Sequence[CloneParams] = (),
        snapshot: SnapshotCreateParams | None = None,
    ) -> None:
        self.clones = list(clones)
        self.snapshot = snapshot


def _branch_params(
    *, clones: Sequence[CloneParams], snapshot: SnapshotCreateParams | None
) -> BranchParams:
    if bool(clones) == (snapshot is not None):
        raise ConfigError("either `clones`, at least one, or `snapshot` is required")
    if len(clones) > CLONES_MAX:
        raise ConfigError(f"clones: {len(clones)} given; {CLONES_MAX} are allowed at once")
    seen: set[str] = set()
    for clone in clones:
        if clone.api_sock in seen:
            raise ConfigError(f"api_sock: {clone.api_sock} is given to two clones")
        seen.add(clone.api_sock)
    return BranchParams(clones=clones, snapshot=snapshot)


_DRIVE_OVERRIDE = struct(
    "DriveOverride",
    (required("drive_id", string), required("path_on_host", path_string)),
    DriveOverride,
)
_CLONE = struct(
    "CloneConfig",
    (
        required("api_sock", path),
        optional("id", string, "anonymous-instance"),
        optional("resume_vm", boolean, True),
        optional("network_overrides", sequence(NETWORK_OVERRIDE), ()),
        optional("vsock_override", VSOCK_OVERRIDE),
        optional("drive_overrides", sequence(_DRIVE_OVERRIDE), ()),
        optional("netns", path),
        optional("stdin_path", path),
        optional("stdout_path", path),
        optional("log_path", path),
        optional("metrics_path", path),
        optional("lifeline_path", path),
    ),
    CloneParams,
)
_SNAPSHOT = struct(
    "BranchSnapshot",
    (required("snapshot_path", path), required("mem_file_path", path)),
    SnapshotCreateParams,
)
BRANCH = struct(
    "BranchConfig",
    (optional("clones", sequence(_CLONE), ()), optional("snapshot", _SNAPSHOT)),
    _branch_params,
)
