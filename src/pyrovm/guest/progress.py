"""Saying what goes on during work that takes long: one line on a terminal, plain lines elsewhere.

Everything goes to standard error; standard output belongs to results.
"""

from __future__ import annotations

import sys
import time
from typing import TextIO

_PLAIN_INTERVAL = 30.0  # seconds between two lines where lines cannot be overwritten


class Progress:
    """Names the step at hand, with a percentage where one is known."""

    def __init__(self, title: str, stream: TextIO | None = None) -> None:
        self._title = title
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._step = ""
        self._began = time.monotonic()
        self._shown = 0.0

    def step(self, text: str) -> None:
        """Go on to the next step."""
        self._step, self._shown = text, time.monotonic()
        if self._live:
            self._draw(None)
        else:
            self._stream.write(f"{self._title}: {text}\n")
            self._stream.flush()

    def at(self, fraction: float) -> None:
        """Say how far the step has come: 0 to 1."""
        if self._live:
            if time.monotonic() - self._shown > 0.1:
                self._draw(fraction)
        elif time.monotonic() - self._shown > _PLAIN_INTERVAL:
            self._shown = time.monotonic()
            self._stream.write(f"{self._title}: {self._step}: {fraction:.0%}\n")
            self._stream.flush()

    def done(self, text: str = "") -> None:
        """Close the display; ``text`` remains, with the time since the last one."""
        if self._live:
            self._stream.write("\r\x1b[K")
        if text:
            took = time.monotonic() - self._began
            self._stream.write(f"{self._title}: {text} ({took:.0f} s)\n")
        self._stream.flush()
        self._began = time.monotonic()

    def _draw(self, fraction: float | None) -> None:
        self._shown = time.monotonic()
        share = "" if fraction is None else f" {fraction:4.0%}"
        took = self._shown - self._began
        self._stream.write(f"\r\x1b[K{self._title}: {self._step}{share} ({took:.0f} s)")
        self._stream.flush()


class Silent(Progress):
    """Shows nothing."""

    def step(self, text: str) -> None:
        pass

    def at(self, fraction: float) -> None:
        pass

    def done(self, text: str = "") -> None:
        pass
