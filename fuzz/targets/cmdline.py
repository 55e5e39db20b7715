"""Kernel command lines: the user's text, and what the machine adds to it."""

from __future__ import annotations

from pyrovm.arch.x86.layout import CMDLINE_MAX
from pyrovm.boot.cmdline import Cmdline, CmdlineError


def one_input(data: bytes) -> None:
    """Lines of the input: the user's text, then additions.  Either a named error or a line that
    fits, is printable, keeps the additions in order and init's part at its end.
    """
    text, *additions = data.decode("utf-8", "replace").split("\n")
    try:
        cmdline = Cmdline(text)
    except CmdlineError:
        return
    _, separator, init = text.partition(" -- ")
    added = []
    for words in additions:
        printable = "".join(char for char in words if char.isascii() and char.isprintable())
        if not printable:
            continue
        try:
            cmdline.add(printable)
        except CmdlineError:
            break  # a line that has become too long is not used
        added.append(printable)
        raw = bytes(cmdline)
        assert len(raw) <= CMDLINE_MAX
        assert raw.endswith(b"\0")
        assert b"\0" not in raw[:-1]
        line = str(cmdline)
        assert line.isprintable()
        assert line.endswith(separator + init)
        kernel = line.removesuffix(separator + init)
        assert kernel.endswith(" ".join(added)) or not kernel
        assert len(bytes(cmdline)) == len(line) + 1


SEEDS = [
    b"",
    b"console=ttyS0 reboot=k panic=1\npci=off\nroot=/dev/vda ro",
    b"a -- init b -- c\npci=off\nvirtio_mmio.device=4K@0xc0001000:5",
    b"x" * 2047,
    b"x" * 2000 + b"\n" + b"y" * 46,
    " \u00e9".encode(),
]
WORDS = (b" -- ", b"\n", b"root=/dev/vda", b" ", b"\x7f")
