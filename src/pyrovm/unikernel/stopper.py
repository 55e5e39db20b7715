"""Stop an emulator when a signal arrives: Python's handlers wait until it has returned.

The interpreter writes a byte to a pipe as soon as a signal arrives, whatever the main thread is
doing.  A thread reads it and sets ``immediate_exit``, as the handler itself does later.
"""

from __future__ import annotations

import os
from threading import Thread

from pyrovm.host import signals
from pyrovm.unikernel.waiting import FORWARDED


class Stopper:
    """Sets byte 1 of ``run_page``; ``close`` ends the thread.  To be made in the main thread."""

    def __init__(self, run_page: memoryview) -> None:
        self._page = run_page
        self._is_closed = False
        self._in, self._out = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._out, False)
        self._thread = Thread(target=self._serve, name="stopper", daemon=True)
        self._thread.start()
        signals.wake_up_fd(self._out)

    def _serve(self) -> None:
        signals.block((signals.SIGALRM, *FORWARDED))  # they end what the main thread waits in
        while os.read(self._in, 64) and not self._is_closed:
            self._page[1] = 1

    def close(self) -> None:
        """End the thread, and give the pipe back."""
        signals.wake_up_fd(-1)
        self._is_closed = True
        os.close(self._out)
        self._thread.join()
        os.close(self._in)
