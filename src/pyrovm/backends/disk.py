"""A disk on the host: a raw file or a block device, read and written in the event loop's thread."""

from __future__ import annotations

import os
import stat

from pyrovm.abi.virtio import VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT
from pyrovm.errors import HostError, os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.devices.virtio_block_request import Request

EINVAL, EIO = 22, 5


class Disk:
    """An open disk, and the ``Sync`` engine of the block device: every request completes at once.

    ``size`` is in bytes, as of opening; a file that shrinks later gives errors past its new end.

    Raises:
        HostError: the file cannot be opened, or is neither a file nor a block device.
    """

    completion_fd = -1
    has_room = True
    is_own = False

    def __init__(self, path: str, read_only: bool) -> None:
        self.path = path
        try:
            # Non-blocking: opening a FIFO would otherwise wait for its other end.
            flags = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC | os.O_NONBLOCK
            self.fd = os.open(path, flags)
        except OSError as error:
            raise _refused(path, error) from None
        try:
            status = os.fstat(self.fd)
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISBLK(status.st_mode)):
                raise OSError(EINVAL, "Invalid argument")
            os.set_blocking(self.fd, True)  # io_uring would answer EAGAIN instead of waiting
            self.size = os.lseek(self.fd, 0, os.SEEK_END)  # st_size of a block device is 0
        except OSError as error:
            os.close(self.fd)
            raise _refused(path, error) from None
        identity = f"{status.st_dev}{status.st_rdev}{status.st_ino}"
        self.disk_id = identity.encode()[:VIRTIO_BLK_ID_BYTES]

    def submit(self, request: Request) -> int:
        """Perform ``request``: bytes done, or a negative errno.  hot: per request."""
        kind, size = request.kind, request.size
        try:
            if kind == VIRTIO_BLK_T_IN:
                done = os.preadv(self.fd, request.data, request.offset) if size else 0
            elif kind == VIRTIO_BLK_T_OUT:
                done = os.pwritev(self.fd, request.data, request.offset) if size else 0
            else:
                os.fsync(self.fd)
                return 0
            if done != size:
                done = self._rest(request, done)
        except OSError as error:
            return -(error.errno or EIO)
        return done

    def _rest(self, request: Request, done: int) -> int:
        """Go on where the kernel stopped short, until the end or the end of the file."""
        call = os.preadv if request.kind == VIRTIO_BLK_T_IN else os.pwritev
        while done < request.size:
            moved = call(self.fd, remaining(request.data, done), request.offset + done)
            if not moved:
                break
            done += moved
        return done

    def start(self) -> None:
        """Nothing waits to be started."""

    def completed(self) -> list[tuple[Request, int]]:
        """Nothing completes later."""
        return []

    def drain(self) -> list[tuple[Request, int]]:
        """Nothing is in flight."""
        return []

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def remaining(views: list[memoryview], done: int) -> list[memoryview]:
    """The bytes of ``views`` from ``done`` on."""
    left = []
    for view in views:
        if done < len(view):
            left.append(view[done:])
            done = 0
        else:
            done -= len(view)
    return left


def _refused(path: str, error: OSError) -> HostError:
    return HostError(
        f"Virtio backend error: Error manipulating the backing file: {os_error(error)} {path}",
        error.errno or 0,
    )
