"""``/serial``: where the bytes of the serial port go, and how fast."""

from __future__ import annotations

from pyrovm.config.rate_limiter import TOKEN_BUCKET, TokenBucketConfig
from pyrovm.config.record import Record
from pyrovm.config.serde.schema import optional, path, struct


class SerialConfig(Record):
    """``serial_out_path`` None means standard output; ``rate_limiter`` is one lone bucket."""

    __slots__ = ("rate_limiter", "serial_out_path")

    def __init__(
        self,
        *,
        serial_out_path: str | None = None,
        rate_limiter: TokenBucketConfig | None = None,
    ) -> None:
        self.serial_out_path = serial_out_path
        self.rate_limiter = rate_limiter


SERIAL_CONFIG = struct(
    "SerialConfig",
    (optional("serial_out_path", path), optional("rate_limiter", TOKEN_BUCKET)),
    SerialConfig,
)
