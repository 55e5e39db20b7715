"""Connections that have to end soon: an unanswered request, a close that is not acknowledged.

Time is counted in ticks of a timer that runs only while somebody is waiting.  It stands still when
the machine does, so a pause costs no connection.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.virtio.device import Loop

TICK = 0.25  # seconds
TIMEOUT_TICKS = 8  # 2 s


class KillQueue:
    """``kill(key)`` is called for each key that was not removed for 2 s, within a tick."""

    def __init__(self, loop: Loop, kill: Callable[[tuple[int, int]], None]) -> None:
        self._timer = loop.timer(self._ticked)
        self._kill = kill
        self._now = 0
        # All wait equally long, so the order of insertion is the order of the deadlines.
        self._deadlines: dict[tuple[int, int], int] = {}

    def __contains__(self, key: tuple[int, int]) -> bool:
        return key in self._deadlines

    def add(self, key: tuple[int, int]) -> None:
        """Kill ``key`` in 2 s; one that waits already keeps its place."""
        if not self._deadlines:
            self._timer.arm(TICK)
            self._deadlines[key] = self._now + TIMEOUT_TICKS
        else:  # a part of the current tick is over
            self._deadlines.setdefault(key, self._now + TIMEOUT_TICKS + 1)

    def remove(self, key: tuple[int, int]) -> None:
        """Let ``key`` live."""
        self._deadlines.pop(key, None)
        if not self._deadlines:
            self._timer.disarm()

    def _ticked(self) -> None:
        self._now += 1
        expired = []
        for key, deadline in self._deadlines.items():
            if deadline > self._now:
                break
            expired.append(key)
        for key in expired:
            del self._deadlines[key]
        if self._deadlines:
            self._timer.arm(TICK)
        for key in expired:
            self._kill(key)

    def clear(self) -> None:
        """Forget everybody."""
        self._deadlines.clear()
        self._timer.disarm()
