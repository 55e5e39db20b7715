"""What client, launcher and child say to each other: SEQPACKET messages, each a record.

    client --> launcher    ask=run kind= build= word=... env=... fd=NUMBER... blocked= ignored=
                           with descriptors: its end of a lifeline, its folder, those of fd=
    launcher --> client    started=PID (with a pidfd), and when it has ended: status=
                           refused=WHY (start it yourself), or failed=WHY (nobody may)
    child --> client       on the lifeline: running= (from now on it acts), or refused=WHY;
                           left=STATUS just before it exits by itself

The lifeline is a pair of sockets between client and child.  When the client's end is closed,
however that came about, the kernel kills the child.  Until ``running`` comes nothing has been done:
a client whose launcher or child ends before that can start the VM by itself.

``ask=status`` is answered with a memfd of JSON, ``ask=stop`` with ``stopping=``.
"""

from __future__ import annotations

from pyrovm.launcher.record import Fields, pack, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MESSAGE_MAX = 128 << 10  # bytes; what is longer starts cold
FIXED = 2  # descriptors of a request before those of fd=: lifeline, folder
FD_MAX = 64  # descriptors that a VM's process takes over
JOB_FDS = FIXED + FD_MAX
FD_NUMBER_MAX = 4096


def encode(fields: Iterable[tuple[str, str]]) -> bytes:
    """A message.

    Raises:
        ValueError: a value has a NUL byte, or it is too long.
    """
    return pack(fields, MESSAGE_MAX)


def decode(data: bytes) -> Fields:
    """The fields of a message."""
    return unpack(data)
