"""Free page hinting: runs of "tell me which pages are free" (virtio 1.2, section 5.5.6.5).

::

    host_cmd   0 -- start --> n (2, 3, ...) -- stop, or the guest finished --> 1 (done)
    guest_cmd  none, then n while the guest answers run n, then 0 (stop) when it has no more

The guest keeps the pages of a run until it sees "done".  Pages that arrive while the two numbers
differ belong to a run that is over: they may be in use again.
"""

from __future__ import annotations

from pyrovm.abi.virtio import VIRTIO_BALLOON_CMD_ID_DONE, VIRTIO_BALLOON_CMD_ID_STOP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FIRST_COMMAND = 2  # 0 and 1 are STOP and DONE
LAST_COMMAND = 0xFFFF_FFFF


class Hinting:
    """The two command numbers, and whether the end of a run is acknowledged without being asked."""

    def __init__(self) -> None:
        self.host_cmd = VIRTIO_BALLOON_CMD_ID_STOP
        self.guest_cmd: int | None = None
        self._last_cmd = FIRST_COMMAND - 1
        self._acknowledge_on_stop = False

    def start(self, acknowledge_on_stop: bool) -> None:
        """Begin a run; one that is under way is over."""
        last = self._last_cmd
        self._last_cmd = last + 1 if last < LAST_COMMAND else FIRST_COMMAND
        self.host_cmd = self._last_cmd
        self._acknowledge_on_stop = acknowledge_on_stop

    def stop(self) -> None:
        """Let the guest have its pages back."""
        self.host_cmd = VIRTIO_BALLOON_CMD_ID_DONE

    @property
    def is_current(self) -> bool:
        """Whether what the guest hints at now belongs to the run that the host asked for."""
        return self.host_cmd >= FIRST_COMMAND and self.guest_cmd == self.host_cmd

    def received(self, command: int) -> bool:
        """The guest sent ``command``; whether ``host_cmd`` has changed by it."""
        finished = command == VIRTIO_BALLOON_CMD_ID_STOP and self.is_current
        self.guest_cmd = command
        if finished and self._acknowledge_on_stop:
            self.stop()
            return True
        return False

    def state(self) -> dict[str, Any]:
        """What to save."""
        return {
            "host_cmd": self.host_cmd,
            "guest_cmd": self.guest_cmd,
            "last_cmd": self._last_cmd,
            "acknowledge_on_stop": self._acknowledge_on_stop,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what was saved."""
        guest_cmd = state["guest_cmd"]
        self.host_cmd = state["host_cmd"] & 0xFFFF_FFFF
        self.guest_cmd = None if guest_cmd is None else guest_cmd & 0xFFFF_FFFF
        self._last_cmd = min(max(state["last_cmd"], FIRST_COMMAND - 1), LAST_COMMAND)
        self._acknowledge_on_stop = bool(state["acknowledge_on_stop"])
