"""How a process has ended that is not our child.

Before its new parent has waited for it /proc/PID/stat tells (proc(5), exit_code); afterwards the
ioctl PIDFD_GET_INFO does, from Linux 6.15 on.
"""

from __future__ import annotations

import fcntl
import os
from struct import pack_into, unpack_from
from time import monotonic, sleep

PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, struct pidfd_info), of its first 64 bytes
INFO_SIZE = 64
INFO_EXIT = 1 << 3
EXIT_AT = 60  # mask, cgroupid; pid, tgid, ppid; eight ids; then exit_code
ENDED_S = 1.0  # from the end of its descriptors to its own
STEP_S = 0.002
UNKNOWN = 1


def exit_status(fd: int, pid: int) -> int:
    """The status (minus a signal's number) of the process behind a pidfd, which is ending.

    Where the kernel does not tell, it is 1.
    """
    until = monotonic() + ENDED_S
    while True:
        status = _of_zombie(fd, pid)
        if status is None:
            status = _of_reaped(fd)
        if status is not None:
            return os.waitstatus_to_exitcode(status)
        if monotonic() > until:
            return UNKNOWN
        sleep(STEP_S)


def _of_zombie(fd: int, pid: int) -> int | None:
    import _signal  # type: ignore[import-not-found]

    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        _signal.pidfd_send_signal(fd, 0)  # it has not been waited for: the number is still its
    except OSError:
        return None
    return int(fields[-1]) if fields[0] == b"Z" else None


def _of_reaped(fd: int) -> int | None:
    buffer = bytearray(INFO_SIZE)
    pack_into("<Q", buffer, 0, INFO_EXIT)
    try:
        fcntl.ioctl(fd, PIDFD_GET_INFO, buffer)
    except OSError:  # an older kernel
        return None
    if not unpack_from("<Q", buffer)[0] & INFO_EXIT:
        return None
    status: int = unpack_from("<i", buffer, EXIT_AT)[0]
    return status
