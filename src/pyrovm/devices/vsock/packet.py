"""The packets of the socket device (virtio 1.2, section 5.10.6): a header, then data.

Pure functions between bytes and :class:`Header`; what a packet means is decided elsewhere.
"""

from __future__ import annotations

from struct import Struct

from pyrovm.errors import GuestError
from pyrovm.virtio.queue import part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.virtio.queue import Chain

# src_cid, dst_cid, src_port, dst_port, len, type, op, flags, buf_alloc, fwd_cnt
HEADER = Struct("<QQIIIHHIII")
HEADER_SIZE = HEADER.size
MAX_DATA = 64 << 10  # bytes of one packet
HOST_CID = 2


class Header:
    """One packet's header; ``size`` is that of its data in bytes (the standard's ``len``)."""

    __slots__ = (
        "buf_alloc",
        "dst_cid",
        "dst_port",
        "flags",
        "fwd_cnt",
        "op",
        "size",
        "src_cid",
        "src_port",
        "type",
    )

    def __init__(
        self,
        src_cid: int,
        dst_cid: int,
        src_port: int,
        dst_port: int,
        size: int,
        type: int,  # noqa: A002 (the standard's word)
        op: int,
        flags: int,
        buf_alloc: int,
        fwd_cnt: int,
    ) -> None:
        self.src_cid = src_cid
        self.dst_cid = dst_cid
        self.src_port = src_port
        self.dst_port = dst_port
        self.size = size
        self.type = type
        self.op = op
        self.flags = flags
        self.buf_alloc = buf_alloc
        self.fwd_cnt = fwd_cnt

    def __bytes__(self) -> bytes:
        return HEADER.pack(
            self.src_cid,
            self.dst_cid,
            self.src_port,
            self.dst_port,
            self.size,
            self.type,
            self.op,
            self.flags,
            self.buf_alloc,
            self.fwd_cnt,
        )


def parse_packet(chain: Chain) -> tuple[Header, list[memoryview]]:
    """A packet of the driver: its header, and its data where it lies.  hot: per packet.

    Raises:
        GuestError: the header is cut off, or promises more data than there is or than 64 KiB.
    """
    have = chain.readable_size - HEADER_SIZE
    if have < 0:
        raise GuestError(f"vsock: a packet of {chain.readable_size} bytes; a header has 44")
    header = Header(*HEADER.unpack(chain.read(0, HEADER_SIZE)))
    size = header.size
    if not size:
        return header, []
    if size > have or size > MAX_DATA:
        raise GuestError(
            f"vsock: a packet says it has {size} bytes of data; it has {have}, up to {MAX_DATA} "
            "are allowed"
        )
    return header, part(chain.readable, HEADER_SIZE, size)


def data_room(chain: Chain) -> int:
    """How many bytes of data a packet for the driver may have in this buffer.

    Raises:
        GuestError: not even the header has room.
    """
    room = chain.writable_size - HEADER_SIZE
    if room < 0:
        raise GuestError(f"vsock: a buffer of {chain.writable_size} bytes; a header has 44")
    return min(room, MAX_DATA)
