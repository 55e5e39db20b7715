"""Buffers that a driver has posted for frames, taken ahead of the frames (virtio 1.2, 5.1.6.3).

With MRG_RXBUF a frame may spread over several chains, so chains are taken until the largest frame
would fit, the tap reads straight into all of them, and those that it did not need serve the next
frame.  Without it a frame has one chain, which must hold the largest frame alone.
"""

from __future__ import annotations

from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.virtio.queue import Chain, Queue

HEADER_SIZE = 12  # struct virtio_net_hdr_v1
NUM_BUFFERS = Struct("<H")
NUM_BUFFERS_AT = 10
MAX_FRAME = 65562  # header and largest segment with its Ethernet header
MAX_PLAIN_FRAME = 1526  # the same without segmentation offloads
MAX_VIEWS = 512  # then no further chain is taken: readv(2) takes 1024 buffers


class RxBuffers:
    """Chains of ``queue`` that wait for a frame: ``views`` of ``capacity`` bytes in all.

    ``rejected`` counts chains that no frame may go into; they are given back empty.
    """

    __slots__ = ("_chains", "_mergeable", "_min_size", "_queue", "capacity", "rejected", "views")

    def __init__(self, queue: Queue, *, mergeable: bool, segments: bool) -> None:
        self._queue = queue
        self._mergeable = mergeable
        if mergeable:
            self._min_size = HEADER_SIZE
        else:
            self._min_size = MAX_FRAME if segments else MAX_PLAIN_FRAME
        self._chains: list[Chain] = []
        self.views: list[memoryview] = []
        self.capacity = 0
        self.rejected = 0

    def refill(self) -> bool:
        """Take chains until a frame fits; False if the driver has not posted enough.

        hot: per frame.  True also where less has to do because no more chains can be taken.

        Raises:
            QueueError, GuestMemoryError: a chain is malformed.
        """
        wanted = MAX_FRAME if self._mergeable else 1
        while self.capacity < wanted:
            if len(self._chains) == self._queue.size or len(self.views) >= MAX_VIEWS:
                return True
            chain = self._queue.pop()
            if chain is None:
                return False
            if chain.writable_size < self._min_size or chain.readable:
                if self._chains:  # later: what is put back must be in one piece
                    self._queue.undo_pop()
                    return True
                self.rejected += 1
                self._queue.push(chain.head, 0)
                continue
            self._chains.append(chain)
            self.views += chain.writable
            self.capacity += chain.writable_size
        return True

    def commit(self, size: int) -> None:
        """Give the chains that a frame of ``size`` bytes (with its header) lies in to the driver.

        hot: per frame.
        """
        chains = self._chains
        first = chains[0]
        if size <= first.writable_size:
            count, views = 1, len(first.writable)
            self._set_num_buffers(1)
            self._queue.push(first.head, size)
            self.capacity -= first.writable_size
        else:
            used = []
            views = 0
            for chain in chains:
                filled = min(size, chain.writable_size)
                used.append((chain.head, filled))
                views += len(chain.writable)
                self.capacity -= chain.writable_size
                size -= filled
                if not size:
                    break
            count = len(used)
            self._set_num_buffers(count)
            self._queue.push_all(used)
        del chains[:count]
        del self.views[:views]

    def _set_num_buffers(self, count: int) -> None:
        """The tap leaves this field of the header alone (and without MRG_RXBUF it must be 1)."""
        first = self._chains[0]
        view = first.writable[0]
        if len(view) >= HEADER_SIZE:
            NUM_BUFFERS.pack_into(view, NUM_BUFFERS_AT, count)
        else:
            first.write(NUM_BUFFERS.pack(count), NUM_BUFFERS_AT)

    def fill(self, data: bytes) -> int:
        """Copy ``data`` as a frame with an empty header; its size, as for :meth:`commit`."""
        done = 0
        frame = bytes(HEADER_SIZE) + data
        for view in self.views:
            piece = frame[done : done + len(view)]
            view[: len(piece)] = piece
            done += len(piece)
            if done == len(frame):
                break
        return done

    def give_back(self) -> None:
        """Leave the chains that are not used in the queue, as if never taken."""
        self._queue.undo_pop(len(self._chains))
        self._chains.clear()
        self.views.clear()
        self.capacity = 0
