"""``/logger``: where log lines go and which."""

from __future__ import annotations

from pyrovm.config.record import Record
from pyrovm.config.serde.schema import boolean, converted, optional, path, string, struct
from pyrovm.errors import ConfigError

LEVELS = {
    "off": "Off",
    "trace": "Trace",
    "debug": "Debug",
    "info": "Info",
    "warn": "Warn",
    "warning": "Warn",
    "error": "Error",
}


class LoggerConfig(Record):
    """A change of the logger: fields that are None stay, but ``level`` falls back to Info.

    ``level`` is one of Off, Trace, Debug, Info, Warn, Error.
    """

    __slots__ = ("level", "log_path", "module", "show_level", "show_log_origin")

    def __init__(
        self,
        *,
        log_path: str | None = None,
        level: str | None = None,
        show_level: bool | None = None,
        show_log_origin: bool | None = None,
        module: str | None = None,
    ) -> None:
        self.log_path = log_path
        self.level = level
        self.show_level = show_level
        self.show_log_origin = show_log_origin
        self.module = module


def parse_level(text: str) -> str:
    """A log level in its own spelling, from any case.

    Raises:
        ConfigError: there is no such level.
    """
    level = LEVELS.get(text.lower())
    if level is None:
        raise ConfigError("Invalid LevelFilter")
    return level


LOGGER_CONFIG = struct(
    "LoggerConfig",
    (
        optional("log_path", path),
        optional("level", converted(parse_level)),
        optional("show_level", boolean),
        optional("show_log_origin", boolean),
        optional("module", string),
    ),
    LoggerConfig,
)
