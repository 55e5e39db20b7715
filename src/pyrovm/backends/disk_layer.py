"""A disk of one's own over a file that others have too: what is written goes elsewhere.

Where the file system can share blocks between files (FICLONE: Btrfs, XFS), the own disk is such a
copy, made at once.  Elsewhere it is a layer: a nameless file beside the base, as sparse as what was
written is little, and a bit for each cluster that tells where it is.  Either goes with its owner.

While a layer lives, the base must stay as it is.  The layer holds a read lock on it (fcntl(2),
F_OFD_SETLK), and :func:`is_base` tells whether anybody does.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from struct import pack

from pyrovm.abi.virtio import VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT
from pyrovm.backends.disk import EIO, Disk
from pyrovm.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyrovm.devices.virtio_block_request import Request

CLUSTER = 64 << 10  # bytes
FICLONE = 0x40049409  # linux/fs.h
F_OFD_SETLK = 37


class PrivateDisk(Disk):
    """A disk that begins as ``path`` is, and whose changes nobody else sees.

    It completes every request at once (the ``Sync`` engine).  A flush has nothing to do: nothing of
    it outlives the process.

    Raises:
        HostError: the file cannot be read, or there is no room for a file beside it.
    """

    is_own = True

    def __init__(self, path: str) -> None:
        super().__init__(path, read_only=True)
        self._base = self.fd
        self._layer = -1
        try:
            self._layer = _nameless(os.path.dirname(os.path.abspath(path)))
            self.is_layered = not _clone(self._base, self._layer)
            if self.is_layered:
                os.ftruncate(self._layer, self.size)
                _lock(self._base, fcntl.F_RDLCK)
        except OSError as error:
            self.close()
            raise HostError.wrap(f"{path}: no disk of its own can be made of it", error) from None
        self._written = bytearray(-(-self.size // CLUSTER))  # 1 for each cluster of the layer

    def submit(self, request: Request) -> int:
        """Perform ``request``: bytes done, or a negative errno.  hot: per request."""
        kind = request.kind
        try:
            if kind == VIRTIO_BLK_T_IN:
                return self._read(request)
            if kind == VIRTIO_BLK_T_OUT:
                return self._write(request)
        except OSError as error:
            return -(error.errno or EIO)
        return 0

    def _read(self, request: Request) -> int:
        if not request.size:
            return 0
        done = 0
        for in_layer, start, size in self._runs(request.offset, request.size):
            fd = self._layer if in_layer else self._base
            moved = _all(os.preadv, fd, _part(request.data, done, size), start)
            done += moved
            if moved < size:
                break
        return done

    def _runs(self, start: int, size: int) -> Iterator[tuple[bool, int, int]]:
        """(whether it is in the layer, offset, size) of pieces, as long as possible."""
        if not self.is_layered:
            yield True, start, size
            return
        end, written = start + size, self._written
        while start < end:
            cluster = start // CLUSTER
            here = written[cluster]
            last = -(-end // CLUSTER)
            edge = written.find(0 if here else 1, cluster, last)
            stop = end if edge < 0 else edge * CLUSTER
            yield bool(here), start, stop - start
            start = stop

    def _write(self, request: Request) -> int:
        size = request.size
        if not size:
            return 0
        start, end = request.offset, request.offset + size
        if self.is_layered:
            # Only clusters that are written in part need what the base has.
            if start % CLUSTER:
                self._copy_up(start // CLUSTER)
            if end % CLUSTER:
                self._copy_up(end // CLUSTER)
        done = _all(os.pwritev, self._layer, request.data, start)
        if self.is_layered and done == size:
            first, last = start // CLUSTER, -(-end // CLUSTER)
            self._written[first:last] = b"\1" * (last - first)
        return done

    def _copy_up(self, cluster: int) -> None:
        if self._written[cluster]:
            return
        at = cluster * CLUSTER
        data = os.pread(self._base, min(CLUSTER, self.size - at), at)
        if os.pwrite(self._layer, data, at) != len(data):
            raise OSError(EIO, os.strerror(EIO))
        self._written[cluster] = 1

    def close(self) -> None:
        if self._layer >= 0:
            os.close(self._layer)
            self._layer = -1
        super().close()


def can_clone(path: str) -> bool:
    """Whether the file system can share the blocks of ``path`` with another file.

    Raises:
        OSError: the file cannot be read.
    """
    base = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        copy = _nameless(os.path.dirname(os.path.abspath(path)))
        try:
            return _clone(base, copy)
        finally:
            os.close(copy)
    finally:
        os.close(base)


def is_base(fd: int) -> bool:
    """Whether somebody's layer lies over the file, open for writing as ``fd``."""
    try:
        _lock(fd, fcntl.F_WRLCK)
    except OSError:
        return True
    _lock(fd, fcntl.F_UNLCK)
    return False


def _lock(fd: int, kind: int) -> None:
    # struct flock: l_type, l_whence, l_start, l_len (0: all of it), l_pid
    fcntl.fcntl(fd, F_OFD_SETLK, pack("<hh4xqqi4x", kind, os.SEEK_SET, 0, 0, 0))


def _clone(base: int, copy: int) -> bool:
    try:
        fcntl.ioctl(copy, FICLONE, base)
    except OSError:  # another file system than that, or a device: a layer does it
        return False
    return True


def _nameless(folder: str) -> int:
    """A new file without a name, in ``folder`` or, where nobody may write there, elsewhere."""
    flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(folder, flags, 0o600)
    except OSError:  # of devices, of read-only file systems, of such without nameless files
        fd, path = tempfile.mkstemp(prefix="pyrovm-layer-")
        os.unlink(path)
        return fd


def _part(views: list[memoryview], skip: int, size: int) -> list[memoryview]:
    """``size`` bytes of ``views`` after the first ``skip``."""
    found = []
    for view in views:
        if skip >= len(view):
            skip -= len(view)
            continue
        piece = view[skip : skip + size]
        skip = 0
        found.append(piece)
        size -= len(piece)
        if not size:
            break
    return found


def _all(
    call: Callable[[int, list[memoryview], int], int], fd: int, views: list[memoryview], at: int
) -> int:
    """Go on where the kernel stops short; bytes moved until the end of the file or of ``views``."""
    done, size = 0, sum(map(len, views))
    while done < size:
        moved = call(fd, _part(views, done, size - done), at + done)
        if not moved:
            break
        done += moved
    return done
