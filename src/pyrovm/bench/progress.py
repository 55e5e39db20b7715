"""What the terminal shows while questions are being answered, maybe two at a time."""

from __future__ import annotations

import sys
import threading
import time

from pyrovm.bench.terms import Show


class Board:
    """One line on a terminal with what every open question is about; plain lines elsewhere."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, str] = {}
        self._live = sys.stderr.isatty()
        self._began = time.monotonic()

    def show(self, question: str) -> Show:
        """Where ``question`` may say how far it is."""
        return lambda text: self._update(question, text)

    def _update(self, question: str, text: str) -> None:
        with self._lock:
            self._open[question] = text
            if self._live:
                self._draw()
            else:
                self._print(f"{question}: {text}")

    def done(self, question: str) -> None:
        """The question is answered."""
        with self._lock:
            self._open.pop(question, None)
            self._clear()

    def write(self, text: str) -> None:
        """Write lines that stay, on standard output."""
        with self._lock:
            self._clear()
            print(text, flush=True)
            if self._live and self._open:
                self._draw()

    def _clear(self) -> None:
        if self._live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _draw(self) -> None:
        line = "  ".join(f"{question}: {text}" for question, text in self._open.items())
        sys.stderr.write(f"\r\x1b[K[{time.monotonic() - self._began:4.0f} s] {line[:110]}")
        sys.stderr.flush()

    def _print(self, text: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - self._began:4.0f} s] {text}\n")
        sys.stderr.flush()
