"""``pyrovm lab``: run a command on a software-emulated KVM host."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pyrovm.errors import ConfigError, PyrovmError
from pyrovm.guest import cache, kernel_fetch, kernels
from pyrovm.guest.progress import Progress
from pyrovm.lab import images, snapshot
from pyrovm.lab.lab import Lab, Result
from pyrovm.lab.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

EXIT_LAB = 125  # the lab failed, as opposed to the command; as docker and env have it

_EPILOG = """\
The status is the command's own; 124: it ran longer than --timeout; 125: the lab itself failed.
In the lab the tree is /job/tree, assets lie in $LAB_ASSETS, and what the command leaves in
$LAB_OUT comes back with --out.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    at = words.index("--") if "--" in words else len(words)
    parser = _parser()
    args = parser.parse_args(words[:at])
    args.command = words[at + 1 :]
    if args.do is _run and not args.command:
        parser.error("run: a command is needed behind --")
    signal.signal(signal.SIGTERM, _end)
    try:
        status: int = args.do(args)
    except PyrovmError as error:
        sys.stderr.write(f"pyrovm lab: {error}\n")
        return EXIT_LAB
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return status


def _end(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)  # by way of the context managers, which end QEMU


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyrovm lab", description="Run a command on a software-emulated KVM host."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    build = commands.add_parser(
        "build", help="make the images and a snapshot, if they are not there"
    )
    _machine_options(build)
    build.set_defaults(do=_build)

    run = commands.add_parser(
        "run",
        help="run a command",
        usage="pyrovm lab run [OPTION...] -- CMD [ARG...]",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _machine_options(run)
    _job_options(run)
    run.add_argument("--timeout", type=float, default=300.0, metavar="S", help="seconds (300)")
    run.add_argument("--python", action="store_true", help="CMD is a script for a warm interpreter")
    run.add_argument("--cold", action="store_true", help="boot; neither take nor use a snapshot")
    run.add_argument(
        "--console", action="store_true", help="show the lab kernel's console at the end"
    )
    run.add_argument("--times", action="store_true", help="say how long what took")
    run.set_defaults(do=_run)

    shell = commands.add_parser("shell", help="look around; the end of the shell ends the machine")
    _machine_options(shell)
    _job_options(shell)
    shell.set_defaults(do=_shell)

    status = commands.add_parser("status", help="say what the cache holds")
    status.add_argument("--json", action="store_true")
    status.set_defaults(do=_status)

    clean = commands.add_parser("clean", help="remove images, snapshots and what else was kept")
    clean.set_defaults(do=_clean)
    return parser


def _machine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cpus", type=int, default=1, metavar="N", help="CPUs (1)")
    parser.add_argument("--memory", type=int, default=1536, metavar="MIB", help="memory (1536)")
    parser.add_argument(
        "--icount", type=int, metavar="N", help="an instruction takes 2**N ns, exactly"
    )
    parser.add_argument("--peer", action="store_true", help="have QEMU inside, to compare with")
    parser.add_argument("--cpu", metavar="MODEL", help="QEMU's CPU model and features")
    parser.add_argument("--append", default="", metavar="ARGS", help="to the kernel's command line")


def _job_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tree", type=Path, metavar="DIR", help="folder that CMD starts in (a copy)"
    )
    parser.add_argument(
        "--skip", action="append", default=[], metavar="PATTERN", help="names to leave out of it"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="gets what CMD leaves in $LAB_OUT")
    parser.add_argument(
        "--asset",
        type=_asset,
        action="append",
        default=[],
        metavar="[NAME=]PATH",
        help="large file or folder, in $LAB_ASSETS; copied once",
    )
    parser.add_argument("--env", type=_pair, action="append", default=[], metavar="NAME=VALUE")


def _lab(args: argparse.Namespace) -> Lab:
    return Lab(
        args.cpus,
        args.icount,
        memory_mib=args.memory,
        peer=args.peer,
        cold=getattr(args, "cold", False),
        cpu=args.cpu,
        append=args.append,
        progress=Progress("lab"),
    )


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{word!r}: NAME=VALUE is needed")
    return name, value


def _asset(word: str) -> tuple[str, Path]:
    name, equals, path = word.partition("=")
    return (name, Path(path)) if equals else (Path(word).name, Path(word))


def _build(args: argparse.Namespace) -> int:
    with _lab(args) as lab:
        lab.run(["true"])
    return 0


def _run(args: argparse.Namespace) -> int:
    with _lab(args) as lab:
        result = lab.run(
            args.command,
            python=args.python,
            tree=args.tree,
            skip=args.skip,
            assets=dict(args.asset),
            env=dict(args.env),
            timeout=args.timeout,
            out=args.out,
            stdout=lambda data: _write(1, data),
            stderr=lambda data: _write(2, data),
        )
    _tell(args, result)
    return result.status


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _tell(args: argparse.Namespace, result: Result) -> None:
    if result.timed_out:
        sys.stderr.write(f"pyrovm lab: ended after {args.timeout:g} s\n")
    if args.console or result.timed_out:
        sys.stderr.write(result.console)
    if args.times:
        times = " ".join(f"{name} {seconds:.2f}" for name, seconds in result.seconds.items())
        sys.stderr.write(f"pyrovm lab: seconds: {times}\n")


def _shell(args: argparse.Namespace) -> int:
    if not os.isatty(0):
        raise ConfigError("shell: standard input is no terminal; for a command: pyrovm lab run")
    terminal = Terminal(0, 1)
    with _lab(args) as lab, terminal.raw():
        result = lab.run(
            ["sh", "-c", "command -v bash >/dev/null && exec bash --norc; exec busybox sh"],
            tree=args.tree,
            skip=args.skip,
            assets=dict(args.asset),
            env={"PS1": "lab:\\w# ", **dict(args.env)},
            timeout=None,
            out=args.out,
            terminal=terminal,
        )
    return result.status


def _status(args: argparse.Namespace) -> int:
    folder = images.cache_folder()
    kernel = kernels.find(kernel_fetch.FLAVOUR)
    report: dict[str, object] = {
        "folder": str(folder),
        "bytes": cache.size_on_disk(folder),
        "kernel": kernel.name if kernel else None,
        "ready": images.current() is not None,
        "images": [
            {
                "name": each.folder.name,
                "bytes": cache.size_on_disk(each.folder),
                "snapshots": len(list(each.folder.glob("snapshot-*/"))),
            }
            for each in images.all_images()
        ],
    }
    if args.json:
        print(json.dumps(report, indent=1))
        return 0
    print(f"folder   {report['folder']}  ({_mib(cache.size_on_disk(folder))})")
    print(f"kernel   {report['kernel'] or 'not fetched yet'}")
    print(f"images   {'fit this host' if report['ready'] else 'will be made by the next run'}")
    for each in images.all_images():
        count = len(list(each.folder.glob("snapshot-*/")))
        size = _mib(cache.size_on_disk(each.folder))
        print(f"         {each.folder.name}  {size}, {count} snapshots")
    return 0


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):.0f} MiB"


def _clean(_args: argparse.Namespace) -> int:
    folder = images.cache_folder()
    used = cache.size_on_disk(folder)
    for each in images.all_images():
        snapshot.prune(each, keep=0)
    images.prune(keep=0)
    for name in ("assets", "bytecode"):
        shutil.rmtree(folder / name, ignore_errors=True)
    print(f"{_mib(used - cache.size_on_disk(folder))} freed below {shlex.quote(str(folder))}")
    return 0
