"""``pyrovm``: one program, one file for each sub-command, loaded when it is asked for."""

from __future__ import annotations

import sys

from pyrovm import __version__
from pyrovm.errors import PyrovmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# name -> module, what it does
COMMANDS = {
    "run": ("run_program", "run a program, or a Linux guest, in a VM here and now"),
    "solo5": ("solo5", "start a Solo5 unikernel, such as MirageOS makes them"),
    "build": ("build", "make an image of a program and all it needs"),
    "image": ("image", "the images of this machine: list, inspect, export"),
    "template": ("template", "programs that are started once and go on in VMs of their own"),
    "snapshot": ("snapshot", "save and restore microVMs; inspect, verify, merge, serve the files"),
    "fork": ("fork", "make copies of a running VM, which go on by themselves"),
    "ps": ("ps", "the running programs that have names"),
    "doctor": ("doctor", "say what this host can do, and what is missing"),
    "kernel": ("kernel", "fetch or build guest kernels"),
    "launcher": ("launcher", "a daemon that has VMs started in milliseconds"),
    "lab": ("lab", "a software-emulated KVM host for machines that have none"),
    "bench": ("bench", "measure pyrovm, and its peers on the same machine beside it"),
    "demo": ("demo", "show programs in VMs of their own, then a Debian guest with its devices"),
}

EXIT_USAGE = 2
EXIT_FAILED = 125  # of pyrovm run: pyrovm itself failed, as with docker run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sub-command; its exit status."""
    words = sys.argv[1:] if argv is None else list(argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if words else EXIT_USAGE
    if words[0] in ("-V", "--version", "version"):
        print(f"pyrovm {__version__}")
        return 0
    if words[0] not in COMMANDS:
        print(f"pyrovm: no command {words[0]!r}\n\n{usage()}", file=sys.stderr)
        return EXIT_USAGE
    status = _by_launcher(words[1:]) if words[0] == "run" else None
    return perform(words) if status is None else status


def _by_launcher(words: Sequence[str]) -> int | None:
    """Have the launcher run a program, where it is to; its status, None where it is not done."""
    from pyrovm.cli.run_kind import has_option, is_kernel_run
    from pyrovm.launcher import place

    if is_kernel_run(words) or not place.is_wanted():
        return None
    if has_option(words, "--id"):  # its copies are to be forked from it, and from nothing else
        return None
    from pyrovm.launcher import environment, stub

    return stub.run("run", words, environment.RUN, failed=EXIT_FAILED)


def perform(words: Sequence[str]) -> int:
    """Run a sub-command here; its exit status."""
    from importlib import import_module

    module = import_module(f"pyrovm.cli.{COMMANDS[words[0]][0]}")
    try:
        status: int = module.main(words[1:])
    except PyrovmError as error:
        print(f"pyrovm {words[0]}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough
        sys.stderr.close()
        return 141
    return status


def usage() -> str:
    """The list of commands."""
    lines = ["usage: pyrovm COMMAND ...", "", "commands:"]
    lines += [f"  {name:8} {text}" for name, (_, text) in COMMANDS.items()]
    lines += ["", "'pyrovm COMMAND --help' tells more; 'pyrovm-firecracker' is the drop-in."]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
