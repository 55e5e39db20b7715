"""The log: one line per message, to standard output or to a file or FIFO that may never block us.

    2026-08-21T12:08:08.123456789 [<id>:<thread>[:LEVEL][:file:line]] message

A line that cannot be written is lost and counted.  What a guest can trigger goes through
:meth:`Log.guest`, which lets a call site have 10 messages in 5 seconds and counts the rest.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident
from time import localtime, monotonic, time_ns

from pyrovm.errors import ConfigError, os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from pyrovm.config.logger import LoggerConfig

OFF, ERROR, WARN, INFO, DEBUG, TRACE = range(6)
LEVELS = {"Off": OFF, "Error": ERROR, "Warn": WARN, "Info": INFO, "Debug": DEBUG, "Trace": TRACE}
_NAMES = ("", "ERROR", "WARN", "INFO", "DEBUG", "TRACE")

BURST = 10  # messages of one call site
PERIOD = 5.0  # in so many seconds
MAX_SITES = 1024  # call sites remembered; there are far fewer in the program
STDOUT = 1


class _Site:
    """A call site that a guest can reach: the messages it may still write in this period."""

    __slots__ = ("end", "left", "suppressed")

    def __init__(self, end: float) -> None:
        self.end = end
        self.left = BURST
        self.suppressed = 0


class _Sink:
    """Where lines go and how they look; shared by a log and its views."""

    __slots__ = (
        "fd",
        "instance_id",
        "level",
        "missed",
        "module",
        "rate_limited",
        "show_level",
        "show_origin",
        "sites",
        "threads",
    )

    def __init__(self) -> None:
        self.fd = STDOUT
        self.instance_id = ""
        self.level = INFO
        self.module = ""
        self.show_level = False
        self.show_origin = False
        self.missed = 0
        self.rate_limited = 0
        self.sites: dict[tuple[object, int], _Site] = {}
        self.threads: dict[int, str] = {}


class Log:
    """Writes lines; a view made by :meth:`named` shares everything but the thread's name.

    Any thread may write: a line is one write(2).
    """

    __slots__ = ("_name", "_sink")

    def __init__(self, instance_id: str = "") -> None:
        self._sink = _Sink()
        self._sink.instance_id = instance_id
        self._name = ""

    def named(self, name: str) -> Log:
        """A view whose lines carry ``name`` instead of the thread's."""
        view = Log.__new__(Log)
        view._sink = self._sink
        view._name = name
        return view

    def set_instance_id(self, instance_id: str) -> None:
        """Begin the lines with another id."""
        self._sink.instance_id = instance_id

    def name_thread(self, name: str) -> None:
        """Call the current thread ``name`` in its lines; others are ``main``."""
        self._sink.threads[get_ident()] = name

    @property
    def missed(self) -> int:
        """Lines lost because they could not be written."""
        return self._sink.missed

    @property
    def rate_limited(self) -> int:
        """Messages that a guest caused too often."""
        return self._sink.rate_limited

    def is_enabled(self, level: int) -> bool:
        """Whether messages of ``level`` are written."""
        return level <= self._sink.level

    def update(self, config: LoggerConfig) -> None:
        """Change what ``config`` names; without a level it falls back to Info.

        Raises:
            ConfigError: the file cannot be opened; the other changes are made.
        """
        sink = self._sink
        sink.level = LEVELS[config.level or "Info"]
        if config.show_level is not None:
            sink.show_level = config.show_level
        if config.show_log_origin is not None:
            sink.show_origin = config.show_log_origin
        if config.module is not None:
            sink.module = config.module
        if config.log_path is not None:
            try:
                fd = open_output(config.log_path)
            except OSError as error:
                raise ConfigError(f"Failed to open target file: {os_error(error)}") from None
            if sink.fd != STDOUT:
                os.close(sink.fd)
            sink.fd = fd

    # ---------------------------------------------------------------- messages

    def error(self, text: str) -> None:
        """Something failed."""
        if self._sink.level >= ERROR:
            self._write(ERROR, text, sys._getframe(1))

    def warn(self, text: str) -> None:
        """Something is odd."""
        if self._sink.level >= WARN:
            self._write(WARN, text, sys._getframe(1))

    def info(self, text: str) -> None:
        """Something happened."""
        if self._sink.level >= INFO:
            self._write(INFO, text, sys._getframe(1))

    def debug(self, text: str) -> None:
        """Something a developer wants to see."""
        if self._sink.level >= DEBUG:
            self._write(DEBUG, text, sys._getframe(1))

    def guest(self, text: str) -> None:
        """A warning that a guest can cause: each call site has its own small allowance."""
        sink = self._sink
        if sink.level < WARN:
            return
        frame = sys._getframe(1)
        key = (frame.f_code, frame.f_lineno)
        now = monotonic()
        site = sink.sites.get(key)
        if site is None or now >= site.end:
            if site is not None and site.suppressed:
                self._write(
                    WARN, f"{site.suppressed} messages like the next were suppressed", frame
                )
            if len(sink.sites) >= MAX_SITES:
                sink.sites.clear()
            site = sink.sites[key] = _Site(now + PERIOD)
        if not site.left:
            site.suppressed += 1
            sink.rate_limited += 1
            return
        site.left -= 1
        self._write(WARN, text, frame)

    # ------------------------------------------------------------------ output

    def _write(self, level: int, text: str, frame: FrameType) -> None:
        sink = self._sink
        if sink.module and not _module_of(frame).startswith(sink.module):
            return
        now = time_ns()
        t = localtime(now // 1_000_000_000)
        tag = self._name or sink.threads.get(get_ident(), "main")
        if sink.instance_id:
            tag = f"{sink.instance_id}:{tag}"
        if sink.show_level:
            tag = f"{tag}:{_NAMES[level]}"
        if sink.show_origin:
            tag = f"{tag}:{_file_of(frame)}:{frame.f_lineno}"
        line = (
            f"{t.tm_year:04}-{t.tm_mon:02}-{t.tm_mday:02}T{t.tm_hour:02}:{t.tm_min:02}:"
            f"{t.tm_sec:02}.{now % 1_000_000_000:09} [{tag}] {text}\n"
        ).encode("utf-8", "surrogateescape")
        try:
            if os.write(sink.fd, line) != len(line):
                sink.missed += 1
        except OSError:  # a full or broken pipe, a full disk: the machine must not care
            sink.missed += 1

    def close(self) -> None:
        """Close the file; later lines go to standard output."""
        sink = self._sink
        if sink.fd != STDOUT:
            os.close(sink.fd)
            sink.fd = STDOUT


def open_output(path: str) -> int:
    """Open a file or FIFO for lines that must never block: created if absent, not truncated.

    Opening for reading too lets a FIFO be opened while nobody reads it.

    Raises:
        OSError: as open(2).
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)


def _module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).replace(".", "::")


def _file_of(frame: FrameType) -> str:
    parts = frame.f_code.co_filename.rsplit("pyrovm/", 1)
    return parts[-1]
