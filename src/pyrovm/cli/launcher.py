"""``pyrovm launcher``: the daemon that forks VMs' processes, started, stopped and looked at."""

from __future__ import annotations

import sys
from time import time

from pyrovm.errors import PyrovmError
from pyrovm.launcher import client, place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence
    from typing import Any

POOL = 2  # children that wait with an empty VM each
MAX_CHILDREN = 1024
IDLE_S = 600.0
POOL_MOST, CHILDREN_MOST = 256, 65536
EXIT_FAILED, EXIT_NOT_RUNNING = 1, 3  # as init scripts have it


def main(argv: Sequence[str]) -> int:
    """Start, stop or show the launcher, or be it; the exit status."""
    options = _parser().parse_args(argv)
    if options.action == "run":
        _serve(options, announce=False)
        return 0
    if options.action == "start":
        return _start(options)
    if options.action == "stop":
        return _stop()
    return _status(options.json)


def background() -> None:
    """Be the daemon that :mod:`pyrovm.launcher.spawn` starts; its arguments are ours."""
    from pyrovm.launcher import daemon

    options = _parser().parse_args(["run", "--idle", str(IDLE_S), *sys.argv[1:]])
    daemon.detach()
    try:
        _serve(options, announce=True)
    except daemon.RunsAlready:
        import os

        os.write(1, daemon.RUNS_ALREADY)
    except PyrovmError as error:
        sys.exit(str(error))


def _parser() -> ArgumentParser:
    from argparse import ArgumentParser

    parser = ArgumentParser(
        prog="pyrovm launcher",
        description="A daemon, one for each user, that has everything loaded and forks one process "
        "for each VM, in milliseconds. pyrovm-firecracker, pyrovm run and the SDK use it where it "
        "runs; PYROVM_LAUNCHER=on has them start it, PYROVM_LAUNCHER=off never uses it.",
    )
    actions = parser.add_subparsers(dest="action", required=True)
    for name, text in (
        ("start", "start it in the background, and wait until it serves"),
        ("run", "be it, in the foreground, as for a service manager"),
    ):
        action = actions.add_parser(name, help=text, description=text.capitalize() + ".")
        _add_options(action, IDLE_S if name == "start" else 0.0)
    text = "let it end; VMs run on"
    actions.add_parser("stop", help=text, description=text.capitalize() + ".")
    text = "show it and its children"
    status = actions.add_parser("status", help=text, description=text.capitalize() + ".")
    status.add_argument("--json", action="store_true", help="as JSON")
    return parser


def _add_options(action: ArgumentParser, idle: float) -> None:
    action.add_argument(
        "--pool",
        type=_between(0, POOL_MOST),
        default=POOL,
        metavar="N",
        help=f"children that wait with an empty VM each [default: {POOL}]",
    )
    action.add_argument(
        "--max-children",
        type=_between(1, CHILDREN_MOST),
        default=MAX_CHILDREN,
        metavar="N",
        help=f"VMs at a time; more are refused [default: {MAX_CHILDREN}]",
    )
    action.add_argument(
        "--idle",
        type=float,
        default=idle,
        metavar="SECONDS",
        help=f"end after this time without a VM or a request; 0: never [default: {idle:g}]",
    )
    action.add_argument(
        "--any-cgroup",
        action="store_true",
        help="serve callers in other cgroups too; their VMs stay in the launcher's",
    )


def _between(least: int, most: int) -> Any:
    def number(text: str) -> int:
        from argparse import ArgumentTypeError

        if not text.isdecimal() or not least <= int(text) <= most:
            raise ArgumentTypeError(f"{text!r}: {least} to {most} are allowed")
        return int(text)

    return number


def _serve(options: Namespace, *, announce: bool) -> None:
    from pyrovm.cli.launcher_entries import ENTRIES, load, prepare
    from pyrovm.launcher import daemon

    daemon.serve(
        load,
        ENTRIES,
        prepare,
        pool=options.pool,
        limit=options.max_children,
        idle=options.idle,
        any_cgroup=options.any_cgroup,
        announce=announce,
    )


def _start(options: Namespace) -> int:
    from pyrovm.launcher import spawn

    words = ["--pool", str(options.pool), "--max-children", str(options.max_children)]
    words += ["--idle", str(options.idle)]
    words += ["--any-cgroup"] if options.any_cgroup else []
    if spawn.start(words):
        print(f"the launcher serves at {place.socket_path()}")
    else:
        print(f"a launcher runs already at {place.socket_path()}")
    return 0


def _stop() -> int:
    try:
        client.ask("stop")
    except client.Unavailable as error:
        print(f"pyrovm launcher: {error}", file=sys.stderr)
        return EXIT_NOT_RUNNING
    return 0


# ----------------------------------------------------------------------- status


def _status(as_json: bool) -> int:
    import json

    try:
        report = json.loads(client.ask("status"))
    except client.Unavailable as error:
        if as_json:
            print(json.dumps({"running": False}))
        else:
            print(error)
        return EXIT_NOT_RUNNING
    for child in report["children"]:
        child["private_kib"] = private_kib(child["pid"])
    report["private_kib"] = private_kib(report["pid"])
    if as_json:
        print(json.dumps({"running": True, "socket": place.socket_path(), **report}, indent=2))
        return 0
    pool = report["pool"]
    print(
        f"launcher {report['pid']}, for {_age(report['since'])}: {len(report['children'])} of at "
        f"most {report['max_children']} VMs, {len(pool['waiting'])} of {pool['size']} waiting; "
        f"{report['started']} started, {report['ended']} ended, {report['failed']} failed, "
        f"{report['refused']} refused"
    )
    if report["last_refusal"]:
        print(f"last refusal: {report['last_refusal']}")
    for child in report["children"]:
        print(
            f"  {child['pid']:>8}  {_age(child['since']):>8}  {child['private_kib']:>8} KiB  "
            f"{child['kind']} {child['name']}"
        )
    return 0


def _age(since: float) -> str:
    seconds = int(max(0.0, time() - since))
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{seconds:02}s" if minutes else f"{seconds}s"


def private_kib(pid: int) -> int:
    """Memory that is this process's alone, guest and all; 0 where it has ended."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return sum(
                int(line.split()[1])
                for line in file
                if line.startswith(("Private_Clean:", "Private_Dirty:"))
            )
    except OSError:  # it has ended meanwhile
        return 0
