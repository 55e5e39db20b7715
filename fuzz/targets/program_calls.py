"""A hostile program's VM: hypercalls of sockets and folders with arbitrary arguments.

Sockets are real ones of the host, under a policy that allows nothing outside of the guest.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from fuzz.source import Source
from pyrovm.abi import libos as abi
from pyrovm.unikernel import addresses as ip
from pyrovm.unikernel.folders import Folders
from pyrovm.unikernel.policy import Policy
from pyrovm.unikernel.share import Share
from pyrovm.unikernel.sockets import Sockets
from tests.fakes.hypercalls import ARGS_AT, DATA_AT, RAM, Guest

CALLS_MAX = 40  # of one input
PATHS = (
    *(b".", b"..", b"file", b"folder", b"folder/inner", b"out", b"out/secret", b"../secret"),
    *(
        b"/etc/passwd",
        b"a/../../secret",
        b"folder/../file",
        b"new",
        b"x" * 300,
        b"",
        b"a\0b",
        b"fifo",
    ),
)
ADDRESSES = tuple(
    ip.parse(text)
    for text in ("127.0.0.1", "0.0.0.0", "::", "::1", "127.0.0.53", "203.0.113.2", "8.8.8.8")
)
PORTS = (0, 53, 80, 32768, 32769, 65535)
SECRET = b"this is not the guest's"


class _Host:
    """A folder with a secret beside it."""

    def __init__(self) -> None:
        self.top = Path(tempfile.mkdtemp(prefix="pyrovm-fuzz-"))
        atexit.register(shutil.rmtree, self.top, True)
        (self.top / "secret").write_bytes(SECRET)
        self.inside = self.top / "inside"
        self.fill()

    def fill(self) -> None:
        """Make the folder anew."""
        shutil.rmtree(self.inside, ignore_errors=True)
        (self.inside / "folder").mkdir(parents=True)
        (self.inside / "file").write_bytes(b"contents")
        (self.inside / "out").symlink_to("..")
        os.mkfifo(self.inside / "fifo")


_host: _Host | None = None


def one_input(data: bytes) -> None:
    """Up to CALLS_MAX calls.  Each has a result that is no exception; nothing outside of the folder
    is changed, and what is there never appears in the guest's memory."""
    global _host
    if _host is None:
        _host = _Host()
    source = Source(data)
    guest = Guest()
    log: list[str] = []
    sockets = Sockets(guest.calls, Policy(), log.append, lambda _: [ip.LOOPBACK4])
    shares = [Share(f"{_host.inside}:/rw"), Share(f"{_host.inside}:/ro:ro")]
    Folders(guest.calls, shares)
    try:
        for _ in range(CALLS_MAX):
            if not source.left:
                break
            _call(guest, source)
        assert len(log) <= 65
        assert SECRET not in guest.ram
    finally:
        guest.close()
        sockets.close()
        for share in shares:
            share.close()
    assert sorted(os.listdir(_host.top)) == ["inside", "secret"]
    assert (_host.top / "secret").read_bytes() == SECRET
    if os.listdir(_host.inside) != ["folder", "file", "out", "fifo"]:
        _host.fill()


def _call(guest: Guest, source: Source) -> None:
    kind = source.below(8)
    handle = source.below(20) if source.u8() < 250 else source.edge()
    if kind < 4:
        result = _socket_call(guest, source, handle)
    elif kind < 7:
        fields = {
            "flags": source.choice((0, 1, 2, 0o100, 0o102, 0o1101, 0o200000, 0x200, 0xFFFFFFFF)),
            "mode": source.u16(),
            "offset": source.edge(),
            "gpa": source.choice((DATA_AT, RAM - 10, 0, 1 << 63)),
            "length": source.edge(),
            "mtime_ns": source.edge(63),
        }
        operation = source.below(abi.PV_FILE_OPERATIONS + 2)
        result = guest.file_call(
            operation, handle % 3, source.choice(PATHS), source.choice(PATHS), **fields
        )
    else:
        number = source.choice(
            (abi.PV_READ, abi.PV_WRITE, abi.PV_CLOSE, abi.PV_SOCKET, abi.PV_FILE)
        )
        if number in (abi.PV_READ, abi.PV_WRITE) and handle < 4:
            return  # the streams: not ours to use
        words = [source.edge() for _ in range(4)]
        result = guest.call(number, handle, *words)
    assert isinstance(result, int)
    assert result >= -4095


def _socket_call(guest: Guest, source: Source, handle: int) -> int:
    operation = source.below(abi.PV_SOCKET_OPERATIONS + 2)
    family = source.choice((ip.AF_INET, ip.AF_INET, ip.AF_INET6, 0, 1, 16))
    endpoint = source.choice(ADDRESSES), source.choice(PORTS)
    data = source.choice((ip.pack(family, endpoint), source.blob(40), bytes(16)))
    if operation == abi.PV_SOCKET_OPEN:
        kind = source.choice(((1, 6), (2, 17), (2, 17), (3, 1)))
        return guest.socket_call(operation, 0, family, *kind)
    size = source.choice((0, 1, 40, 4096, RAM, 1 << 40))
    pieces = [(source.choice((DATA_AT, ARGS_AT, RAM - 1)), size)] * source.choice((0, 1, 2, 65))
    length = source.choice((None, None, None, 0, 128, 200, 0xFFFFFFFF))
    a, b = source.choice((0, 1, 2, 6, 41, -1)), source.below(40)
    return guest.socket_call(operation, handle, a, b, 0, data, length, pieces)


SEEDS = [bytes(range(200)), bytes(200), bytes([0, 0, 0] * 90), bytes([5, 1, 7, 2] * 60)]
