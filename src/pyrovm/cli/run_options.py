"""The options of ``pyrovm run``, and the small languages of --drive, --net, --vsock, --pmem."""

from __future__ import annotations

from argparse import (
    SUPPRESS,
    ArgumentParser,
    BooleanOptionalAction,
    Namespace,
    RawDescriptionHelpFormatter,
)

from pyrovm.config.size import size_mib
from pyrovm.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

DESCRIPTION = """\
Start a Linux guest with its serial console on this terminal.

The command behind -- is started as the guest's init by its /bin/sh, and its exit
status becomes ours; without one the guest's own init runs.  A kernel that is not
Linux gets the command as its program's arguments.  On a terminal every key goes to
the guest; the escape key (Ctrl-] unless --escape says otherwise) and then ? shows
what can be asked of the machine itself.
"""

EPILOG = """\
examples:
  pyrovm run --kernel vmlinux --initrd initrd.cpio
  pyrovm run --kernel debian --drive root.ext4 --memory 512M --cpus 2 -- uname -a
  pyrovm run --kernel lean --drive root.ext4,ro --net auto --vsock 3:/tmp/guest.sock

exit status: 0 when the guest stopped by itself (the command's own with --),
1 for an error or a fault of the guest, 124 when --timeout has passed.
"""


def parse(argv: Sequence[str]) -> Namespace:
    """The options; ``command`` is the list behind ``--``, empty without.

    Exits with status 2 and a usage message on words that do not fit.
    """
    words = list(argv)
    command: list[str] = []
    if "--" in words:
        at = words.index("--")
        words, command = words[:at], words[at + 1 :]
    options = _parser().parse_args(words)
    options.command = command
    return options


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="pyrovm run",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        usage="pyrovm run --kernel K [options] [-- COMMAND ...]",
    )
    add = parser.add_argument
    add("--kernel", metavar="K", required=True,
        help="a kernel file (ELF or bzImage), or the name of a fetched or built one "
        "('pyrovm kernel list')")  # fmt: skip
    add("--initrd", metavar="FILE", help="an initial RAM disk")
    add("--drive", metavar="SPEC", action="append", default=[],
        help="FILE[,root][,ro][,id=NAME][,cache=writeback][,engine=async]; may be repeated, and "
        "the first is the root device where there is no initrd")  # fmt: skip
    add("--pmem", metavar="SPEC", action="append", default=[],
        help="FILE[,root][,ro][,id=NAME] as persistent memory")  # fmt: skip
    add("--cpus", metavar="N", type=int, default=1, help="1 to 32 (default 1)")
    add("--memory", metavar="SIZE", default="256M", help="e.g. 512M, 2G (default 256M)")
    add("--hotplug-memory", metavar="SIZE", help="memory that the API may add later")
    add("--smt", action="store_true", help="show the vCPUs as hyper-threads in pairs")
    add("--huge-pages", choices=("None", "Transparent", "2M"), default="None",
        help="what backs guest memory (default None)")  # fmt: skip
    add("--net", metavar="SPEC", action="append", default=[],
        help="TAP[,mac=M][,mtu=N][,ip=ADDRESS/PREFIX] or auto: a tap with addresses of its own, "
        "gone when the guest is")  # fmt: skip
    add("--vsock", metavar="SPEC", help="CID[:SOCKET]")
    add("--balloon", metavar="MIB", type=int, help="a balloon of this size")
    add("--no-entropy", action="store_true", help="no virtio entropy device")
    add("--vhost", action="store_true", help="let the host's kernel move network and vsock data")
    add("--mmds", metavar="FILE", help="JSON for the metadata service, on all networks")
    add("--cmdline", metavar="TEXT", help="the kernel's command line, instead of ours")
    add("--append", metavar="TEXT", default="", help="more kernel parameters")
    add("--boot", choices=("auto", "linux", "pvh", "multiboot"), default="auto",
        help="how to start the kernel (default auto: as it asks for)")  # fmt: skip
    add("--acpi", action=BooleanOptionalAction, default=None,
        help="ACPI tables and what the memory map says of them, or the MP table alone (default: "
        "for Linux yes, for other kernels no)")  # fmt: skip
    add("--api-sock", metavar="PATH", help="API socket (default: one in the run-time folder)")
    add("--no-api", action="store_true", help="no API socket")
    add("--id", default="anonymous-instance", help="the microVM's id")
    add("--console", choices=("stdio", "none"), default="stdio",
        help="where the serial console goes (default stdio)")  # fmt: skip
    add("--escape", metavar="KEY", default="^]", help="the escape key, e.g. ^A (default ^])")
    add("--timeline", action="store_true", help="show the boot timeline and exits at the end")
    add("--json", action="store_true", help="show them as JSON on standard error")
    add("--timeout", metavar="S", type=float, help="end the machine after so many seconds")
    add("--log", metavar="FILE", help="the VMM's log (default: errors on stderr)")
    add("--level", default="Info", help="log level (default Info)")
    add("--metrics", metavar="FILE", help="the VMM's metrics")
    add("--kvm", metavar="DEVICE", default="/dev/kvm", help=SUPPRESS)
    return parser


def split_spec(option: str, text: str, flags: Sequence[str], keys: Sequence[str]) -> dict[str, str]:
    """``FIRST[,flag][,key=value]`` as a dict; the first word is under ``""``, flags are ``"1"``.

    Raises:
        ConfigError: a word that is neither.
    """
    first, *rest = text.split(",")
    found = {"": first}
    for word in rest:
        name, separator, value = word.partition("=")
        if not separator and name in flags:
            found[name] = "1"
        elif separator and name in keys and value:
            found[name] = value
        else:
            allowed = [*flags, *(f"{key}=..." for key in keys)]
            raise ConfigError(f"{option} {text!r}: {word!r} is none of {', '.join(allowed)}")
    if not first:
        raise ConfigError(f"{option} {text!r} begins with no name")
    return found


def drive(index: int, text: str) -> dict[str, object]:
    """A drive's record for the API from ``--drive``."""
    spec = split_spec("--drive", text, ("root", "ro"), ("id", "cache", "engine"))
    return {
        "drive_id": spec.get("id", f"drive{index}"),
        "path_on_host": spec[""],
        "is_root_device": "root" in spec,
        "is_read_only": "ro" in spec,
        "cache_type": spec.get("cache", "unsafe").capitalize(),
        "io_engine": spec.get("engine", "sync").capitalize(),
    }


def pmem(index: int, text: str) -> dict[str, object]:
    """A pmem device's record for the API from ``--pmem``."""
    spec = split_spec("--pmem", text, ("root", "ro"), ("id",))
    return {
        "id": spec.get("id", f"pmem{index}"),
        "path_on_host": spec[""],
        "root_device": "root" in spec,
        "read_only": "ro" in spec,
    }


def vsock(text: str, default_path: str) -> dict[str, object]:
    """The vsock's record for the API from ``--vsock``.

    Raises:
        ConfigError: the CID is no number from 3 on.
    """
    cid, _, path = text.partition(":")
    if not cid.isascii() or not cid.isdigit() or not 3 <= int(cid) < 1 << 32:
        raise ConfigError(f"--vsock {text!r}: the CID must be a number from 3 to {(1 << 32) - 1}")
    return {"guest_cid": int(cid), "uds_path": path or default_path}


def hotplug(text: str) -> dict[str, object]:
    """The hotplug memory's record for the API from ``--hotplug-memory``."""
    return {"total_size_mib": size_mib(text)}


def escape_key(text: str) -> bytes:
    """The byte of ``^X``, or of a single character.

    Raises:
        ConfigError: it is neither.
    """
    if len(text) == 2 and text[0] == "^" and "@" <= text[1].upper() <= "_":
        return bytes([ord(text[1].upper()) - 64])
    if len(text) == 1 and text.isascii():
        return text.encode()
    raise ConfigError(f"--escape {text!r}: a character or ^ and a letter is expected, such as ^]")
