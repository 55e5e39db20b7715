"""How a process has ended that is not our child (ioctl PIDFD_GET_INFO, Linux 6.15)."""

from __future__ import annotations

import fcntl
import os
from struct import pack_into, unpack_from
from time import monotonic, sleep

PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, struct pidfd_info), of its first 64 bytes
INFO_SIZE = 64
INFO_EXIT = 1 << 3
EXIT_AT = 60  # mask, cgroupid; pid, tgid, ppid; eight ids; then exit_code
REAPED_S = 1.0  # the kernel tells when its new parent has waited for it
STEP_S = 0.002
UNKNOWN = 1


def exit_status(fd: int) -> int:
    """The status (minus a signal's number) of the process behind a pidfd, which is ending.

    An older kernel does not tell: then it is 1.
    """
    until = monotonic() + REAPED_S
    while True:
        buffer = bytearray(INFO_SIZE)
        pack_into("<Q", buffer, 0, INFO_EXIT)
        try:
            fcntl.ioctl(fd, PIDFD_GET_INFO, buffer)
        except OSError:
            return UNKNOWN
        if unpack_from("<Q", buffer)[0] & INFO_EXIT:
            status: int = unpack_from("<i", buffer, EXIT_AT)[0]
            return os.waitstatus_to_exitcode(status)
        if monotonic() > until:
            return UNKNOWN
        sleep(STEP_S)
