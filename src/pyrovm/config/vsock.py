"""``/vsock``: the socket device and its Unix socket on the host."""

from __future__ import annotations

from pyrovm.config.record import Record
from pyrovm.config.serde.schema import (
    optional,
    path_string,
    required,
    string,
    struct,
    u32,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class VsockConfig(Record):
    """``vsock_id`` is deprecated: it is accepted and has no effect."""

    __slots__ = ("guest_cid", "uds_path", "vsock_id")

    def __init__(self, *, guest_cid: int, uds_path: str, vsock_id: str | None = None) -> None:
        self.vsock_id = vsock_id
        self.guest_cid = guest_cid
        self.uds_path = uds_path

    def to_json(self) -> Any:
        return {"guest_cid": self.guest_cid, "uds_path": self.uds_path}


VSOCK_CONFIG = struct(
    "VsockDeviceConfig",
    (optional("vsock_id", string), required("guest_cid", u32), required("uds_path", path_string)),
    VsockConfig,
)
