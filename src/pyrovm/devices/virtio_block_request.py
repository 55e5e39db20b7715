"""What a block driver asks for (virtio 1.2, section 5.2.6): parsed here, performed elsewhere.

A request is 16 readable bytes (type, reserved, sector), the data, and one writable byte for the
status; with VERSION_1 the driver may cut them into descriptors as it likes (2.7.4).
"""

from __future__ import annotations

from struct import Struct

from pyrovm.abi.virtio import (
    VIRTIO_BLK_ID_BYTES,
    VIRTIO_BLK_S_IOERR,
    VIRTIO_BLK_S_OK,
    VIRTIO_BLK_S_UNSUPP,
    VIRTIO_BLK_T_FLUSH,
    VIRTIO_BLK_T_GET_ID,
    VIRTIO_BLK_T_IN,
    VIRTIO_BLK_T_OUT,
)
from pyrovm.virtio.queue import QueueError, part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.virtio.queue import Chain

SECTOR_SIZE = 512
SECTOR_SHIFT = 9
HEADER = Struct("<I4xQ")  # type, sector

_header_at = HEADER.unpack_from


class Request:
    """One request.

    ``offset`` and ``size`` are in bytes; ``data`` are live views of exactly ``size`` bytes of guest
    memory; ``status`` is the status byte.  ``answer`` is OK where the request may be performed,
    otherwise the status to refuse it with.
    """

    __slots__ = ("answer", "chain", "data", "kind", "offset", "size", "started_ns", "status")

    def __init__(
        self,
        chain: Chain,
        kind: int,
        offset: int,
        data: list[memoryview],
        size: int,
        status: memoryview,
        answer: int = VIRTIO_BLK_S_OK,
    ) -> None:
        self.chain = chain
        self.kind = kind
        self.offset = offset
        self.data = data
        self.size = size
        self.status = status
        self.answer = answer
        self.started_ns = 0  # filled in when it is performed


def parse_request(chain: Chain, sectors: int, read_only: bool) -> Request:
    """Understand ``chain`` as a request to a disk of ``sectors``.  hot: per request.

    Raises:
        QueueError: there is no byte for the status, so nothing can be answered.
    """
    readable, writable = chain.readable, chain.writable
    if chain.writable_size < 1:
        raise QueueError(f"block request at {chain.head} has no room for a status")
    # The usual layout: header | data | status, each a descriptor of its own.
    if len(writable[-1]) == 1:
        status = writable[-1]
        to_guest = writable[:-1]
    else:
        status = part(writable, chain.writable_size - 1, 1)[0]
        to_guest = part(writable, 0, chain.writable_size - 1)
    if readable and len(readable[0]) == 16:
        kind, sector = _header_at(readable[0])
        from_guest = readable[1:]
    elif chain.readable_size >= 16:
        kind, sector = HEADER.unpack(chain.read(0, 16))
        from_guest = part(readable, 16, chain.readable_size - 16)
    else:
        return Request(chain, 0, 0, [], 0, status, VIRTIO_BLK_S_IOERR)
    out_size, in_size = chain.readable_size - 16, chain.writable_size - 1

    if kind == VIRTIO_BLK_T_IN:
        answer = _check_extent(sector, in_size, sectors) if not out_size else VIRTIO_BLK_S_IOERR
        return Request(chain, kind, sector << SECTOR_SHIFT, to_guest, in_size, status, answer)
    if kind == VIRTIO_BLK_T_OUT:
        answer = _check_extent(sector, out_size, sectors) if not in_size else VIRTIO_BLK_S_IOERR
        if read_only:
            answer = VIRTIO_BLK_S_IOERR
        return Request(chain, kind, sector << SECTOR_SHIFT, from_guest, out_size, status, answer)
    if kind == VIRTIO_BLK_T_FLUSH:
        return Request(chain, kind, 0, [], 0, status)
    if kind == VIRTIO_BLK_T_GET_ID:
        fits = in_size >= VIRTIO_BLK_ID_BYTES
        data = part(to_guest, 0, VIRTIO_BLK_ID_BYTES) if fits else []
        answer = VIRTIO_BLK_S_OK if fits else VIRTIO_BLK_S_IOERR
        return Request(chain, kind, 0, data, VIRTIO_BLK_ID_BYTES if fits else 0, status, answer)
    return Request(chain, kind, 0, [], 0, status, VIRTIO_BLK_S_UNSUPP)


def _check_extent(sector: int, size: int, sectors: int) -> int:
    """Whole sectors, none of them beyond the disk."""
    if size & (SECTOR_SIZE - 1) or sector + (size >> SECTOR_SHIFT) > sectors:
        return VIRTIO_BLK_S_IOERR
    return VIRTIO_BLK_S_OK
