"""The front end of vhost-user (the vhost-user protocol specification), for one queue.

vhost-user is vhost spoken over a Unix stream socket: the same requests, with descriptors as
ancillary data, and guest memory as files that the other process maps.  We ask and it answers;
it never asks.  A message is a header (request, flags, payload size) and its payload, all in the
byte order of the machine.

The other process was chosen by the host's owner but is not trusted with our memory: what it sends
is checked, and every wait for it ends.
"""

from __future__ import annotations

import _socket
import os
from struct import Struct, pack

from pyrovm.abi import virtio as v
from pyrovm.errors import HostError, os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrovm.memory.guest_memory import GuestMemory
    from pyrovm.virtio.queue import Queue

TIMEOUT = 10.0  # seconds for any one answer

# Requests.
GET_FEATURES, SET_FEATURES, SET_OWNER = 1, 2, 3
SET_MEM_TABLE = 5
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE = 8, 9, 10, 11
SET_VRING_KICK, SET_VRING_CALL = 12, 13
GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES = 15, 16
SET_VRING_ENABLE = 18
GET_CONFIG = 24

# Header flags: version in the low two bits.
VERSION, VERSION_MASK, REPLY, NEED_REPLY = 1, 3, 1 << 2, 1 << 3

F_PROTOCOL_FEATURES = 1 << 30  # among the virtio features: there are protocol features
PROTOCOL_F_REPLY_ACK = 1 << 3
PROTOCOL_F_CONFIG = 1 << 9

HEADER = Struct("=III")
U64 = Struct("=Q")
STATE = Struct("=II")  # queue, value
ADDRESS = Struct("=IIQQQQ")  # queue, flags, descriptors, used, available, log
REGION = Struct("=QQQQ")  # gpa, size, our address, offset in the file
CONFIG = Struct("=III")  # offset, size, flags; then the bytes
MAX_REGIONS = 8
MAX_REPLY = 4096

WANTED = 1 << v.VIRTIO_F_VERSION_1 | 1 << v.VIRTIO_RING_F_EVENT_IDX | 1 << v.VIRTIO_BLK_F_RO


class VhostUserBlockBackend:
    """A connection to a process that serves a block device, negotiated.

    ``features`` are the virtio features that both sides have, as the driver is offered them.

    Raises:
        HostError: the connection failed, or the other side cannot do what is needed.
    """

    required_features = F_PROTOCOL_FEATURES

    def __init__(self, path: str, *, writeback: bool) -> None:
        self._path = path
        self._acknowledges = False
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            self._socket.settimeout(TIMEOUT)
            try:
                self._socket.connect(path)
            except OSError as error:
                raise self._failed("connect", error) from None
            self.features = self._negotiate(writeback)
        except BaseException:
            self.close()
            raise

    def _negotiate(self, writeback: bool) -> int:
        wanted = WANTED | F_PROTOCOL_FEATURES
        if writeback:
            wanted |= 1 << v.VIRTIO_BLK_F_FLUSH
        self._tell(SET_OWNER)
        features = self._ask_u64(GET_FEATURES) & wanted
        if not features & F_PROTOCOL_FEATURES:
            raise HostError(f"Vhost-user backend error: {self._path} has no protocol features")
        if not features >> v.VIRTIO_F_VERSION_1 & 1:
            raise HostError(f"Vhost-user backend error: {self._path} does not know virtio 1")
        protocol = self._ask_u64(GET_PROTOCOL_FEATURES)
        if not protocol & PROTOCOL_F_CONFIG:
            raise HostError(f"Vhost-user backend error: {self._path} has no configuration space")
        protocol &= PROTOCOL_F_CONFIG | PROTOCOL_F_REPLY_ACK
        self._tell(SET_PROTOCOL_FEATURES, U64.pack(protocol))
        self._acknowledges = bool(protocol & PROTOCOL_F_REPLY_ACK)
        return features

    # ------------------------------------------------------------- the device

    def read_config(self, size: int) -> bytes:
        """``size`` bytes of the configuration space.

        Raises:
            HostError: there is no (good) answer.
        """
        answer = self._ask(GET_CONFIG, CONFIG.pack(0, size, 0) + bytes(size))
        if len(answer) != CONFIG.size + size:
            raise HostError(
                f"Vhost-user backend error: {self._path}: configuration space of "
                f"{max(0, len(answer) - CONFIG.size)} bytes, not {size}"
            )
        return answer[CONFIG.size :]

    def start(
        self, memory: GuestMemory, queue: Queue, features: int, *, kick: int, call: int
    ) -> None:
        """Have ``queue`` served: memory, ring, the eventfds of notifications and interrupts.

        Raises:
            HostError: the other side refused, or guest memory is not shared.
            GuestError: a ring is outside of memory.
        """
        desc = memory.hva(queue.desc, 16 * queue.size)
        avail = memory.hva(queue.avail, 6 + 2 * queue.size)
        used = memory.hva(queue.used, 6 + 8 * queue.size)
        self._tell(SET_FEATURES, U64.pack(features))
        self.set_memory(memory)
        self._tell(SET_VRING_NUM, STATE.pack(0, queue.size))
        self._tell(SET_VRING_BASE, STATE.pack(0, queue.next_avail))
        self._tell(SET_VRING_ADDR, ADDRESS.pack(0, 0, desc, used, avail, 0))
        self._tell(SET_VRING_CALL, U64.pack(0), [call])
        self._tell(SET_VRING_KICK, U64.pack(0), [kick])
        self._tell(SET_VRING_ENABLE, STATE.pack(0, 1))
        os.write(kick, U64.pack(1))  # the driver may have notified somebody else before

    def set_memory(self, memory: GuestMemory) -> None:
        """Share guest memory, or what has come or gone of it while the queue is served.

        Raises:
            HostError: the other side refused, or the memory cannot be shared.
        """
        rows, files = [], []
        for region in memory.regions:
            if region.file is None:
                continue
            fd, offset = region.file
            rows.append(REGION.pack(region.gpa, region.size, region.hva, offset))
            files.append(fd)
        if not 0 < len(rows) <= MAX_REGIONS:
            raise HostError(
                f"Vhost-user backend error: {len(rows)} regions of shared memory; 1 to "
                f"{MAX_REGIONS} can be told"
            )
        self._tell(SET_MEM_TABLE, pack("=II", len(rows), 0) + b"".join(rows), files)

    def stop(self, memory: GuestMemory, queue: Queue) -> None:
        """Have the queue served no more; it continues where the other process stopped.

        Raises:
            HostError: there is no (good) answer.
        """
        answer = self._ask(GET_VRING_BASE, STATE.pack(0, 0))
        if len(answer) != STATE.size:
            raise HostError(f"Vhost-user backend error: {self._path}: bad answer to GET_VRING_BASE")
        _index, base = STATE.unpack(answer)
        used = bytes(memory.slice(queue.used + 2, 2))
        queue.continue_at(base, int.from_bytes(used, "little"))

    def close(self) -> None:
        self._socket.close()

    # -------------------------------------------------------------- messages

    def _tell(self, request: int, payload: bytes = b"", files: Sequence[int] = ()) -> None:
        """Send a request that has no answer of its own."""
        if not self._acknowledges:
            self._send(request, VERSION, payload, files)
            return
        self._send(request, VERSION | NEED_REPLY, payload, files)
        if self._receive_u64(request):
            raise HostError(f"Vhost-user backend error: {self._path} refused request {request}")

    def _ask(self, request: int, payload: bytes = b"") -> bytes:
        self._send(request, VERSION, payload)
        return self._receive(request)

    def _ask_u64(self, request: int) -> int:
        self._send(request, VERSION, b"")
        return self._receive_u64(request)

    def _send(self, request: int, flags: int, payload: bytes, files: Sequence[int] = ()) -> None:
        message = HEADER.pack(request, flags, len(payload)) + payload
        ancillary = []
        if files:
            rights = pack(f"={len(files)}i", *files)
            ancillary.append((_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights))
        try:
            sent = self._socket.sendmsg([message], ancillary, _socket.MSG_NOSIGNAL)
            if sent < len(message):
                self._socket.sendall(message[sent:], _socket.MSG_NOSIGNAL)
        except OSError as error:
            raise self._failed(f"request {request}", error) from None

    def _receive(self, request: int) -> bytes:
        answered, flags, size = HEADER.unpack(self._receive_exactly(request, HEADER.size))
        if answered != request or flags & (VERSION_MASK | REPLY) != VERSION | REPLY:
            raise HostError(
                f"Vhost-user backend error: {self._path} answered request {request} with "
                f"{answered}, flags {flags:#x}"
            )
        if size > MAX_REPLY:
            raise HostError(f"Vhost-user backend error: {self._path} answered with {size} bytes")
        return self._receive_exactly(request, size)

    def _receive_u64(self, request: int) -> int:
        answer = self._receive(request)
        if len(answer) != U64.size:
            raise HostError(
                f"Vhost-user backend error: {self._path} answered request {request} with "
                f"{len(answer)} bytes, not {U64.size}"
            )
        value: int = U64.unpack(answer)[0]
        return value

    def _receive_exactly(self, request: int, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                piece = self._socket.recv(size - len(data))
            except OSError as error:
                raise self._failed(f"answer to request {request}", error) from None
            if not piece:
                raise HostError(f"Vhost-user backend error: {self._path} closed the connection")
            data += piece
        return data

    def _failed(self, what: str, error: OSError) -> HostError:
        if isinstance(error, TimeoutError):
            return HostError(
                f"Vhost-user backend error: {self._path}: {what}: nothing for {TIMEOUT:.0f} s"
            )
        return HostError(
            f"Vhost-user backend error: {self._path}: {what}: {os_error(error)}", error.errno or 0
        )
