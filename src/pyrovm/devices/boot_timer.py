"""The boot timer: a guest's init writes one byte, the log gets the time since InstanceStart."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

BOOTED = 123  # the byte that says that user space runs


class BootTimer:
    """``now`` returns wall-clock and CPU time in us, from any start; ``log`` takes the line.

    The time counts from when the device is made: at the beginning of the start of the machine.
    """

    def __init__(self, now: Callable[[], tuple[int, int]], log: Callable[[str], object]) -> None:
        self._now = now
        self._log = log
        self._start_us, self._start_cpu_us = now()

    def read(self, offset: int, size: int) -> int:
        """There is nothing to read."""
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Log the time if this is the agreed byte; ignore everything else."""
        if (offset, size, value) != (0, 1, BOOTED):
            return
        now_us, now_cpu_us = self._now()
        us, cpu_us = now_us - self._start_us, now_cpu_us - self._start_cpu_us
        self._log(
            f"Guest-boot-time = {us:6} us {us // 1000} ms, "
            f"{cpu_us:6} CPU us {cpu_us // 1000} CPU ms"
        )
