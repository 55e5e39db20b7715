"""``pyrovm template``: programs that are started once, and go on in VMs of their own."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from pyrovm.errors import ConfigError, PyrovmError
from pyrovm.programs import store
from pyrovm.programs.template import READY_S, Template

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyrovm.programs.branches import Branch

FORKS_MAX = 4096
TIMED_OUT = 124  # as timeout(1) has it
MIB = 1 << 20


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    words = sys.argv[1:] if argv is None else list(argv)
    at = words.index("--") if "--" in words else len(words)
    args = _parser().parse_args(words[:at])
    args.words = words[at + 1 :]  # the program's
    try:
        status: int = args.do(args)
    except PyrovmError as error:
        sys.stderr.write(f"pyrovm template: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyrovm template",
        description="A program that has run until it was ready; from there it goes on, in as many "
        "VMs as one likes, in milliseconds.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    create = commands.add_parser(
        "create",
        help="start a program, wait until it is ready, keep it",
        usage="pyrovm template create [options] NAME -- PROGRAM [ARGUMENT ...]",
    )
    create.set_defaults(do=_create)
    add = create.add_argument
    add("name", metavar="NAME", help="how to call the template")
    add(
        "--ready",
        metavar="WHEN",
        default="call",
        help='call: it writes "ready" to /dev/pyrovm (default); line:TEXT: it writes TEXT; '
        "port:N: it listens at that TCP port",
    )
    add("--timeout", metavar="S", type=float, default=READY_S, help="seconds (default 60)")
    add("--memory", metavar="SIZE", default="512M", help="of each VM (default 512M)")
    add("--cpus", metavar="N", type=int, default=1, help="of each VM (default 1)")
    add("-e", "--env", metavar="NAME=VALUE", action="append", default=[], help="a variable more")
    add("-w", "--workdir", metavar="FOLDER", help="start in this folder of the image")
    add("--allow", metavar="RULE", action="append", default=[], help="what it may connect to")
    add("-p", "--publish", metavar="PORTS", action="append", default=[], help="as for pyrovm run")
    add("-v", "--volume", metavar="FOLDERS", action="append", default=[], help="as for pyrovm run")
    add("--replace", action="store_true", help="there may be one of this name already")

    show = commands.add_parser("list", help="the templates of this machine")
    show.set_defaults(do=_list)
    inspect = commands.add_parser("inspect", help="what there is to know about one")
    inspect.set_defaults(do=_inspect)
    inspect.add_argument("name", metavar="NAME", help="of the template")
    remove = commands.add_parser("remove", help="remove templates; what runs goes on")
    remove.set_defaults(do=_remove)
    remove.add_argument("name", metavar="NAME", nargs="+", help="of the templates")

    usage = "pyrovm template {} [options] NAME [-- LINE ...]"
    run = commands.add_parser(
        "run", help="have one go on, with this terminal's streams", usage=usage.format("run")
    )
    run.set_defaults(do=_run)
    fork = commands.add_parser(
        "fork", help="have one go on many times at once", usage=usage.format("fork")
    )
    fork.set_defaults(do=_fork)
    for each in (run, fork):
        each.add_argument("name", metavar="NAME", help="of the template")
        each.add_argument("--timeout", metavar="S", type=float, help="seconds until it is ended")
    run.add_argument("-p", "--publish", metavar="PORTS", action="append", help="elsewhere")
    fork.add_argument("-n", "--count", metavar="N", type=int, default=1, help="how many (1)")
    for each in (show, inspect, fork):
        each.add_argument("--json", action="store_true", help="for programs")
    return parser


def _create(args: argparse.Namespace) -> int:
    if not args.words:
        raise ConfigError("create: a program is needed, behind --")
    env = dict(_pair(text) for text in args.env)
    begun = time.monotonic()
    with Template(
        args.words,
        ready=args.ready,
        timeout=args.timeout,
        name=args.name,
        replace=args.replace,
        memory=args.memory,
        cpus=args.cpus,
        env=env,
        cwd=args.workdir,
        allow=args.allow,
        publish=args.publish,
        volumes=args.volume,
    ):
        took = time.monotonic() - begun
    found = store.describe(args.name)
    size = found["disk_bytes"] / MIB
    print(f"{args.name}: ready ({args.ready}) after {took:.2f} s, {size:.1f} MiB on disk")
    return 0


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise ConfigError(f"-e {text}: NAME=VALUE is needed")
    return name, value


def _list(args: argparse.Namespace) -> int:
    found = [store.describe(name) for name in store.names()]
    if args.json:
        print(json.dumps(found))
        return 0
    for each in found:
        size = f"{each['disk_bytes'] / MIB:.1f} MiB"
        print(f"{each['name']:20} {size:>11}  {each['ready']:12}  {_command(each)}")
    return 0


def _command(found: dict[str, Any]) -> str:
    text = " ".join(found["command"]).replace("\n", " ")
    return "".join(c if c.isprintable() else "?" for c in text)[:80]


def _inspect(args: argparse.Namespace) -> int:
    found = store.describe(args.name)
    if args.json:
        print(json.dumps(found))
        return 0
    created = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found["created_ns"] / 1e9))
    for title, value in (
        ("name", found["name"]),
        ("runs", _command(found)),
        ("ready", found["ready"]),
        ("created", created),
        ("memory", f"{found['memory_bytes'] // MIB} MiB, {found['disk_bytes'] / MIB:.1f} on disk"),
        ("cpus", found["cpus"]),
        ("image", f"sha256:{found['image']}"),
        ("folder", found["folder"]),
        *(("allow", rule) for rule in found["allow"]),
        *(("publish", rule) for rule in found["publish"]),
        *(("volume", text) for text in found["volumes"]),
    ):
        print(f"{title:8} {value}")
    return 0


def _remove(args: argparse.Namespace) -> int:
    for name in args.name:
        store.remove(name)
    return 0


def _run(args: argparse.Namespace) -> int:
    publish = args.publish
    if publish is None:
        publish = store.describe(args.name)["publish"]
    with Template.load(args.name) as template:
        branch = template.fork(args.words, publish=publish)
    return _end_of(branch, args.timeout)


def _fork(args: argparse.Namespace) -> int:
    if not 1 <= args.count <= FORKS_MAX:
        raise ConfigError(f"--count: {args.count} given; 1 to {FORKS_MAX} are allowed")
    branches: list[Branch] = []
    try:
        with Template.load(args.name) as template:
            branches += (
                template.fork(args.words, stdin=subprocess.DEVNULL) for _ in range(args.count)
            )
        for number, branch in enumerate(branches):
            facts = {"branch": number, "generation": branch.generation, "ports": branch.ports}
            if args.json:
                print(json.dumps(facts), flush=True)
            for port, (address, host_port) in branch.ports.items():
                text = f"branch {number}: port {port} is at {address}:{host_port}\n"
                sys.stderr.write("" if args.json else text)
        return max([_end_of(branch, args.timeout) for branch in branches])
    finally:
        for branch in branches:
            branch.close()


def _end_of(branch: Branch, timeout: float | None) -> int:
    """The exit status of a branch, as a shell has it."""
    try:
        status: int = branch.wait(timeout).returncode
    except subprocess.TimeoutExpired:
        sys.stderr.write(f"pyrovm template: ended after --timeout {timeout:g} s\n")
        return TIMED_OUT
    finally:
        branch.close()
    return status if status >= 0 else 128 - status
