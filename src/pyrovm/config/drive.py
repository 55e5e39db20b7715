"""``/drives/{drive_id}``: block devices, backed by a file or by a vhost-user process."""

from __future__ import annotations

from pyrovm.config.rate_limiter import RATE_LIMITER, RateLimiterConfig
from pyrovm.config.record import Record, json_or_null
from pyrovm.config.serde.schema import (
    boolean,
    enum,
    optional,
    path_string,
    required,
    string,
    struct,
)
from pyrovm.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CACHE_TYPES = ("Unsafe", "Writeback")
IO_ENGINES = ("Async", "Sync")


class DriveConfig(Record):
    """A drive.  With ``socket`` it is a vhost-user device and the fields of a file are None."""

    __slots__ = (
        "cache_type",
        "drive_id",
        "io_engine",
        "is_read_only",
        "is_root_device",
        "partuuid",
        "path_on_host",
        "rate_limiter",
        "socket",
    )

    def __init__(
        self,
        *,
        drive_id: str,
        is_root_device: bool = False,
        partuuid: str | None = None,
        cache_type: str = "Unsafe",
        is_read_only: bool | None = None,
        path_on_host: str | None = None,
        rate_limiter: RateLimiterConfig | None = None,
        io_engine: str | None = None,
        socket: str | None = None,
    ) -> None:
        self.drive_id = drive_id
        self.partuuid = partuuid
        self.is_root_device = is_root_device
        self.cache_type = cache_type
        self.is_read_only = is_read_only
        self.path_on_host = path_on_host
        self.rate_limiter = rate_limiter
        self.io_engine = io_engine
        self.socket = socket

    @property
    def is_vhost_user(self) -> bool:
        """Whether another process serves this drive."""
        return self.socket is not None

    def checked(self) -> DriveConfig:
        """This drive, complete: a file's defaults are filled in.

        Raises:
            ConfigError: it has neither a file nor a socket, or fields of both.
        """
        of_file = (self.path_on_host, self.is_read_only, self.rate_limiter, self.io_engine)
        if self.socket is not None and all(field is None for field in of_file):
            return self
        if self.socket is not None or self.path_on_host is None:
            raise ConfigError("Invalid block config.")
        return self.replaced(
            is_read_only=bool(self.is_read_only), io_engine=self.io_engine or "Sync"
        )

    def replaced(self, **fields: Any) -> DriveConfig:
        """A copy with some fields changed."""
        return DriveConfig(**{name: getattr(self, name) for name in self.__slots__} | fields)

    def updated(self, update: DriveUpdate) -> DriveConfig:
        """This drive after a PATCH with ``update``."""
        fields: dict[str, Any] = {}
        if update.path_on_host is not None:
            fields["path_on_host"] = update.path_on_host
        if update.rate_limiter is not None:
            limiter = self.rate_limiter or RateLimiterConfig()
            fields["rate_limiter"] = limiter.updated(update.rate_limiter)
        return self.replaced(**fields)

    def to_json(self) -> Any:
        return {
            "drive_id": self.drive_id,
            "partuuid": self.partuuid,
            "is_root_device": self.is_root_device,
            "cache_type": self.cache_type,
            "is_read_only": self.is_read_only,
            "path_on_host": self.path_on_host,
            "rate_limiter": json_or_null(self.rate_limiter),
            "io_engine": self.io_engine,
            "socket": self.socket,
        }


class DriveUpdate(Record):
    """A PATCH of a drive of a running machine; a field that is None stays as it is."""

    __slots__ = ("drive_id", "path_on_host", "rate_limiter")

    def __init__(
        self,
        *,
        drive_id: str,
        path_on_host: str | None = None,
        rate_limiter: RateLimiterConfig | None = None,
    ) -> None:
        self.drive_id = drive_id
        self.path_on_host = path_on_host
        self.rate_limiter = rate_limiter


DRIVE_CONFIG = struct(
    "BlockDeviceConfig",
    (
        required("drive_id", string),
        optional("partuuid", string),
        required("is_root_device", boolean),
        optional("cache_type", enum(*CACHE_TYPES), "Unsafe"),
        optional("is_read_only", boolean),
        optional("path_on_host", path_string),
        optional("rate_limiter", RATE_LIMITER),
        optional("io_engine", enum(*IO_ENGINES)),
        optional("socket", path_string),
    ),
    DriveConfig,
)
DRIVE_UPDATE = struct(
    "BlockDeviceUpdateConfig",
    (
        required("drive_id", string),
        optional("path_on_host", path_string),
        optional("rate_limiter", RATE_LIMITER),
    ),
    DriveUpdate,
)
