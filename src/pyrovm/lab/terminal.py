"""The user's terminal, connected to a terminal of the lab."""

from __future__ import annotations

import contextlib
import os
import termios
import tty
from collections.abc import Callable, Iterator, Mapping

from pyrovm.lab.emulator import Emulator


class Terminal:
    """Passes keys in and characters out while a command of the lab runs on its terminal."""

    def __init__(self, source: int, sink: int) -> None:
        """Of the descriptors ``source`` and ``sink``, which stay the caller's."""
        self._source = source
        self._sink = sink
        try:
            columns, rows = os.get_terminal_size(source)
        except OSError:
            columns, rows = 80, 24
        self.size = rows, columns

    def attach(self, emulator: Emulator) -> Mapping[int, Callable[[], bool]]:
        """What to do when a key was pressed, and when the lab's terminal has something to show."""
        far = emulator.tty
        assert far

        def from_user() -> bool:
            data = os.read(self._source, 4096)
            far.sendall(data)
            return bool(data)

        def from_lab() -> bool:
            data = far.recv(1 << 16)
            while data:
                data = data[os.write(self._sink, data) :]
            return True

        return {self._source: from_user, far.fileno(): from_lab}

    @contextlib.contextmanager
    def raw(self) -> Iterator[None]:
        """Hand every key on as it is, while in the context."""
        before = termios.tcgetattr(self._source)
        try:
            tty.setraw(self._source)
            yield
        finally:
            termios.tcsetattr(self._source, termios.TCSADRAIN, before)
