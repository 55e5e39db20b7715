"""The ``Async`` engine of the block device: io_uring (io_uring(7)), in Python.

Two rings are shared with the kernel.  We write submission entries and move the submission tail;
the kernel moves its head when it has taken them, writes completions, moves their tail, and signals
an eventfd that the event loop watches.  Each side writes only its own indices.  x86 keeps stores in
order and loads in order, so "entry before tail" and "tail before completion" need no barrier; our
only store-then-load, publishing the tail and having the kernel look, goes through a system call.

``ctypes`` comes with this module, so it is imported only where a drive asks for ``Async``.
"""

from __future__ import annotations

import mmap
import os
from struct import Struct

from pyrovm.abi import io_uring as abi
from pyrovm.abi.io_uring import __NR_io_uring_enter as NR_ENTER
from pyrovm.abi.io_uring import __NR_io_uring_register as NR_REGISTER
from pyrovm.abi.io_uring import __NR_io_uring_setup as NR_SETUP
from pyrovm.abi.virtio import VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT
from pyrovm.backends.disk import Disk, remaining
from pyrovm.errors import HostError, Unsupported, os_error
from pyrovm.host.eventfd import EventFd
from pyrovm.host.libc import address_of, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.devices.virtio_block_request import Request

ENTRIES = 128
EPERM, ENOSYS = 1, 38
U32_MASK = 0xFFFF_FFFF

SQE = Struct("<BBHiQQIIQ24x")  # opcode flags ioprio fd off addr len rw_flags user_data
CQE = Struct("<QiI")  # user_data res flags
IOVEC = Struct("<QQ")  # base, length

_NEEDED = abi.IORING_FEAT_SINGLE_MMAP | abi.IORING_FEAT_NODROP  # Linux 5.5


class Ring:
    """A submission ring of ``entries`` and its completion ring, twice as long.

    Raises:
        Unsupported: the kernel has no io_uring, or not for us.
        HostError: there is not enough of something.
    """

    def __init__(self, entries: int = ENTRIES) -> None:
        params = abi.io_uring_params()
        self.event = EventFd()
        self.fd = -1
        try:
            self.fd = syscall(NR_SETUP, entries, address_of(params.view))
            if params.features & _NEEDED != _NEEDED:  # before Linux 5.5
                raise OSError(ENOSYS, os.strerror(ENOSYS))
            self._map(params)
            event = bytearray(self.event.fd.to_bytes(4, "little"))
            syscall(NR_REGISTER, self.fd, abi.IORING_REGISTER_EVENTFD, address_of(event), 1)
        except OSError as error:
            self.event.close()
            if self.fd >= 0:
                os.close(self.fd)
            text = f"Unable to set up io_uring: {os_error(error)}"
            if error.errno in (ENOSYS, EPERM):
                raise Unsupported(f"{text}; use the Sync engine", error.errno) from None
            raise HostError(text, error.errno or 0) from None
        self._written = 0  # entries that the kernel has not been told of

    def _map(self, params: abi.io_uring_params) -> None:
        sq, cq = params.sq_off, params.cq_off
        size = max(
            sq.array + 4 * params.sq_entries, cq.cqes + abi.io_uring_cqe.SIZE * params.cq_entries
        )
        self._rings = mmap.mmap(self.fd, size, offset=abi.IORING_OFF_SQ_RING)
        self._entries = mmap.mmap(
            self.fd, abi.io_uring_sqe.SIZE * params.sq_entries, offset=abi.IORING_OFF_SQES
        )
        self._words = words = memoryview(self._rings).cast("I")
        self._sq_tail_at = sq.tail // 4
        self._cq_head_at, self._cq_tail_at = cq.head // 4, cq.tail // 4
        self._cqes_at = cq.cqes
        self._sq_mask, self._cq_mask = words[sq.ring_mask // 4], words[cq.ring_mask // 4]
        self._sq_tail = words[self._sq_tail_at]
        for index in range(params.sq_entries):  # an indirection that we have no use for
            words[sq.array // 4 + index] = index

    def write(self, opcode: int, fd: int, offset: int, address: int, count: int, tag: int) -> None:
        """Prepare one operation; at most ``entries`` may be between here and :meth:`reap`."""
        at = (self._sq_tail & self._sq_mask) * abi.io_uring_sqe.SIZE
        SQE.pack_into(self._entries, at, opcode, 0, 0, fd, offset, address, count, 0, tag)
        self._sq_tail = (self._sq_tail + 1) & U32_MASK
        self._written += 1

    def submit(self) -> None:
        """Hand what was written to the kernel."""
        self._words[self._sq_tail_at] = self._sq_tail
        while self._written:
            self._written -= self._enter(self._written, 0, 0)

    def wait(self) -> None:
        """Wait until at least one operation has completed."""
        self._enter(0, 1, abi.IORING_ENTER_GETEVENTS)

    def _enter(self, to_submit: int, min_complete: int, flags: int) -> int:
        while True:
            try:
                return syscall(NR_ENTER, self.fd, to_submit, min_complete, flags, 0, 0)
            except (InterruptedError, BlockingIOError):  # a signal; or no memory, for a moment
                continue

    def reap(self) -> list[tuple[int, int]]:
        """The (tag, result) of what has completed since the last call."""
        words, mask, base = self._words, self._cq_mask, self._cqes_at
        head, tail = words[self._cq_head_at], words[self._cq_tail_at]
        found = []
        while head != tail:
            tag, result, _flags = CQE.unpack_from(self._rings, base + (head & mask) * CQE.size)
            found.append((tag, result))
            head = (head + 1) & U32_MASK
        words[self._cq_head_at] = head
        return found

    def close(self) -> None:
        """Release the rings; nothing may be in flight."""
        if self.fd >= 0:
            self._words.release()
            self._rings.close()
            self._entries.close()
            self.event.close()
            os.close(self.fd)
            self.fd = -1


class InFlight:
    """A request that the kernel works on; it keeps the memory alive that the kernel was told of."""

    __slots__ = ("done", "iovecs", "request", "views")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.views = request.data
        self.iovecs = bytearray()
        self.done = 0  # bytes, where the kernel stopped short and was sent on


class UringDisk:
    """A disk whose requests complete later, in any order; it owns ``disk``.

    Raises:
        Unsupported, HostError: as :class:`Ring`; ``disk`` stays open.
    """

    is_own = False

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._ring = Ring(ENTRIES)
        self._free = list(range(ENTRIES))
        self._in_flight: dict[int, InFlight] = {}
        self.size = disk.size
        self.disk_id = disk.disk_id
        self.completion_fd = self._ring.event.fd

    @property
    def has_room(self) -> bool:
        """Whether one more request fits."""
        return bool(self._free)

    def submit(self, request: Request) -> int | None:
        """Prepare ``request``; it moves with :meth:`start`.  hot: per request."""
        kind = request.kind
        moves = kind in (VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT)
        if moves and not request.size:
            return 0
        tag = self._free.pop()
        self._in_flight[tag] = flight = InFlight(request)
        if moves:
            self._move(tag, flight)
        else:
            self._ring.write(abi.IORING_OP_FSYNC, self._disk.fd, 0, 0, 0, tag)
        return None

    def _move(self, tag: int, flight: InFlight) -> None:
        request = flight.request
        reads = request.kind == VIRTIO_BLK_T_IN
        views = [view for view in flight.views if len(view)]
        if len(views) == 1:
            opcode = abi.IORING_OP_READ if reads else abi.IORING_OP_WRITE
            address, count = address_of(views[0]), len(views[0])
        else:
            opcode = abi.IORING_OP_READV if reads else abi.IORING_OP_WRITEV
            flight.iovecs = bytearray(IOVEC.size * len(views))
            for index, view in enumerate(views):
                IOVEC.pack_into(flight.iovecs, index * IOVEC.size, address_of(view), len(view))
            address, count = address_of(flight.iovecs), len(views)
        flight.views = views
        offset = request.offset + flight.done
        self._ring.write(opcode, self._disk.fd, offset, address, count, tag)

    def start(self) -> None:
        """Hand what was submitted to the kernel."""
        self._ring.submit()

    def completed(self) -> list[tuple[Request, int]]:
        """The requests that have completed, with bytes done or a negative errno."""
        self._ring.event.drain()
        return self._reap()

    def _reap(self) -> list[tuple[Request, int]]:
        done = []
        for tag, result in self._ring.reap():
            flight = self._in_flight[tag]
            request = flight.request
            if result > 0 and flight.done + result < request.size:
                flight.done += result
                flight.views = remaining(flight.views, result)
                self._move(tag, flight)
                continue
            del self._in_flight[tag]
            self._free.append(tag)
            done.append((request, result if result < 0 else flight.done + result))
        self._ring.submit()
        return done

    def drain(self) -> list[tuple[Request, int]]:
        """Wait for all that is in flight, for as long as the disk takes.

        There is no time-out: until an operation has completed, the kernel writes to guest memory.
        """
        self._ring.submit()
        done = self._reap()
        while self._in_flight:
            self._ring.wait()
            done += self._reap()
        return done

    def close(self) -> None:
        if self._ring.fd >= 0:
            self.drain()
            self._ring.close()
        self._disk.close()
