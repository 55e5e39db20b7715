"""Snapshots as the SDK's users see them, and the API requests behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

MEMORY_SUFFIX = ".mem"


@dataclass(frozen=True)
class Snapshot:
    """The two files of a snapshot; ``memory`` is, unless given, ``state`` with ``.mem`` behind it.

    The memory file must not change while a microVM that was restored from it lives.
    """

    state: str
    memory: str

    @classmethod
    def at(
        cls, state: str | PathLike[str] | Snapshot, memory: str | PathLike[str] | None = None
    ) -> Snapshot:
        """The snapshot with these paths."""
        if isinstance(state, Snapshot):
            return state
        path = fspath(state)
        return cls(path, path + MEMORY_SUFFIX if memory is None else fspath(memory))


def create_request(snapshot: Snapshot, *, diff: bool) -> dict[str, Any]:
    """The body of ``PUT /snapshot/create``."""
    return {
        "snapshot_type": "Diff" if diff else "Full",
        "snapshot_path": snapshot.state,
        "mem_file_path": snapshot.memory,
    }


def load_request(
    snapshot: Snapshot,
    *,
    page_server: str | PathLike[str] | None,
    resume: bool,
    track_dirty_pages: bool,
    taps: Mapping[str, str] | None,
    vsock_path: str | None,
    clock_realtime: bool,
    huge_pages: str,
) -> dict[str, Any]:
    """The body of ``PUT /snapshot/load``."""
    kind, path = "File", snapshot.memory
    if page_server is not None:
        kind, path = "Uffd", fspath(page_server)
    body: dict[str, Any] = {
        "snapshot_path": snapshot.state,
        "mem_backend": {"backend_type": kind, "backend_path": path},
        "resume_vm": resume,
    }
    if track_dirty_pages:
        body["track_dirty_pages"] = True
    if taps:
        body["network_overrides"] = [
            {"iface_id": name, "host_dev_name": tap} for name, tap in taps.items()
        ]
    if vsock_path is not None:
        body["vsock_override"] = {"uds_path": vsock_path}
    if clock_realtime:
        body["clock_realtime"] = True
    if huge_pages != "Snapshot":
        body["huge_pages"] = huge_pages
    return body
