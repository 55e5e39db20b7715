"""The VMM as the SDK starts it: ``pyrovm-firecracker`` on a lifeline.

``--lifeline FD`` comes first: the read end of a pipe whose other end the parent holds.  When the
parent is gone, however it went, the pipe breaks and the VMM ends too.
"""

from __future__ import annotations

import os
import sys
from _thread import start_new_thread

from pyrovm.cli.firecracker import main as firecracker

EXIT_ORPHANED = 1


def main() -> int:
    """Run the program; its exit code."""
    words = sys.argv[1:]
    if words[:1] == ["--lifeline"]:
        start_new_thread(watch, (int(words[1]),))
        words = words[2:]
    return firecracker(words)


def watch(lifeline: int) -> None:
    """End this process when nobody can write to ``lifeline`` any more."""
    # A thread of its own, since the main one may be busy: nobody is left to wait for it.
    os.read(lifeline, 1)
    os._exit(EXIT_ORPHANED)


if __name__ == "__main__":
    sys.exit(main())
