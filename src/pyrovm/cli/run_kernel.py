"""What ``pyrovm run`` is given to run, and the command lines of kernels other than Linux."""

from __future__ import annotations

import os

from pyrovm.boot.cmdline import as_word
from pyrovm.boot.identify import LINUX, identify
from pyrovm.boot.loader import LINUX64, MULTIBOOT, PVH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from pyrovm.boot.identify import Kernel

PROTOCOLS = {"auto": None, "linux": LINUX64, "pvh": PVH, "multiboot": MULTIBOOT}


def identify_file(path: str) -> Kernel:
    """What the kernel at ``path`` is; one that cannot be read counts as Linux."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:  # the start says so
        return LINUX
    try:
        return identify(lambda offset, size: os.pread(fd, size, offset))
    except OSError:  # a folder, a pipe: the start says so
        return LINUX
    finally:
        os.close(fd)


def unikernel_words(options: Namespace, kernel: Kernel, path: str) -> str:
    """The command line: our own words (--cmdline, --append), then the program's arguments.

    Unikraft takes the first word for its program's name; parameters, and devices' announcements
    are parameters too, it reads only before a ``--``.  OSv wants its options and the program in
    one row.  Multiboot kernels get their name from the loader.
    """
    own = [] if options.cmdline is None else [options.cmdline]
    protocol = PROTOCOLS[options.boot] or kernel.protocol
    if kernel.takes_name and protocol != MULTIBOOT and options.cmdline is None:
        own.append(as_word(os.path.basename(path)))
    own += filter(None, [options.append])
    has_parameters = options.append or any(
        (options.drive, options.pmem, options.net, options.vsock, options.balloon)
    )
    if kernel.takes_name and (has_parameters or (options.command and options.cmdline is not None)):
        own.append("--")
        return " ".join([*own, *options.command, *([] if options.command else [""])])
    return " ".join([*own, *options.command])
