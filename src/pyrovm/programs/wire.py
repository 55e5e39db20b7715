"""What is said between the caller, its helper and the process of one VM.

The caller makes a pair of sockets for each VM, its channel, and sends one end with the program's
three streams to the helper, as one message with four descriptors.  The helper forks; on the channel

* the caller sends the request, a record, and no more: when it closes its end, the VM is killed;
* the VM's process sends STARTED, and a record as its report when the program has ended.

A record is its length (4 bytes, little-endian) and fields ``name=value``, each ended by NUL; names
may repeat.  Numbers are decimal.
"""

from __future__ import annotations

from pyrovm.launcher.record import pack, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

READY = b"ready"  # the helper, when it serves
PASS = b"run"  # what goes with the descriptors
DESCRIPTORS = 4  # channel, standard input, output, error
STARTED = b"\x01"
LENGTH_SIZE = 4
RECORD_MAX = 1 << 20

Fields = dict[str, list[str]]


class BrokenRecord(Exception):
    """What came is no record."""


def encode(fields: Iterable[tuple[str, str]]) -> bytes:
    """A record.

    Raises:
        ValueError: a value has a NUL byte, or all of them are too long; says which.
    """
    data = pack(fields, RECORD_MAX)
    return len(data).to_bytes(LENGTH_SIZE, "little") + data


def length(prefix: bytes) -> int:
    """Of the record that begins with these LENGTH_SIZE bytes.

    Raises:
        BrokenRecord: it is longer than any.
    """
    size = int.from_bytes(prefix, "little")
    if size > RECORD_MAX:
        raise BrokenRecord(f"a record of {size} bytes; {RECORD_MAX} are allowed")
    return size


def decode(data: bytes) -> Fields:
    """The fields of a record without its length."""
    return unpack(data)


def receive(recv: Callable[[int], bytes]) -> Fields:
    """One record from a blocking socket's ``recv``.

    Raises:
        BrokenRecord: it ends early, or is none.
    """
    size = length(_exactly(recv, LENGTH_SIZE))
    return decode(_exactly(recv, size))


def _exactly(recv: Callable[[int], bytes], size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = recv(size - len(data))
        if not piece:
            raise BrokenRecord(f"it ends after {len(data)} of {size} bytes")
        data += piece
    return bytes(data)
