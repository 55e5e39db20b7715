"""``pyrovm fork``: copies of a running microVM, in folders of their own.

The microVM is known by its API socket. Each copy gets a folder with its API socket, its vsock
socket, and what its console says.  Programs are known by their names: cli/fork_program.py.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from pyrovm.cli.ask import ask
from pyrovm.cli.fork_program import fork_program, is_program
from pyrovm.errors import ConfigError, HostError, PyrovmError

if TYPE_CHECKING:
    from collections.abc import Sequence

CLONES_MAX = 1024
NUMBER = "{n}"


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    args = _parser().parse_args(argv)
    try:
        if not 1 <= args.count <= CLONES_MAX:
            raise ConfigError(f"--count: {args.count} given; 1 to {CLONES_MAX} are allowed")
        if is_program(args.source):
            return fork_program(args)
        return _fork(args)
    except PyrovmError as error:
        if args.json:
            print(json.dumps({"error": str(error)}))
        sys.stderr.write(f"pyrovm fork: {error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyrovm fork",
        description="Copies of a running VM, which goes on as before. They share its memory until "
        "either writes to it. A program that was started by pyrovm run --id NAME is known by its "
        "name, and its copies are called NAME-0 and so on; a Linux guest is known by its API "
        "socket. --paused, --tap, --netns and --drive are for Linux guests.",
        epilog="In a TAP, FILE or PATH, {n} is the copy's number, from 0.",
    )
    add = parser.add_argument
    add("source", metavar="VM", help="the program's name, or the microVM's API socket")
    add("-n", "--count", metavar="N", type=int, default=1, help="how many (default 1)")
    add(
        "--into",
        metavar="FOLDER",
        help="where their folders go (default VM.forks: beside the socket, or here)",
    )
    add("--paused", action="store_true", help="do not let them run yet")
    add(
        "--tap",
        metavar="ID=TAP",
        action="append",
        default=[],
        help="the tap of an interface, such as eth0=tap{n}",
    )
    add("--netns", metavar="PATH", help="a network namespace that has taps of the same names")
    add(
        "--drive",
        metavar="ID=FILE",
        action="append",
        default=[],
        help="a drive's file; one that can be written is else the copy's own, and goes with it",
    )
    add("--json", action="store_true", help="for programs")
    return parser


def _fork(args: argparse.Namespace) -> int:
    taps, drives = (_pairs(field, getattr(args, field)) for field in ("tap", "drive"))
    has_vsock = ask(args.source, "GET", "/vm/config")["vsock"] is not None
    into = os.path.abspath(args.into or f"{args.source}.forks")
    folders = _folders(into, args.count)
    clones = [
        _clone(folder, number, taps, drives, args, has_vsock=has_vsock)
        for number, folder in enumerate(folders)
    ]
    try:
        answer = ask(args.source, "PUT", "/branch", {"clones": clones})
    except PyrovmError:
        for folder in folders:
            _remove(folder)
        raise
    if args.json:
        print(json.dumps(answer))
        return 0
    for told in answer["clones"]:
        print(f"{told['id']}  pid {told['pid']}  {told['api_sock']}")
    print(f"The source stood still for {answer['pause_us'] / 1000:.1f} ms.")
    return 0


def _clone(
    folder: str,
    number: int,
    taps: dict[str, str],
    drives: dict[str, str],
    args: argparse.Namespace,
    *,
    has_vsock: bool,
) -> dict[str, Any]:
    def own(text: str) -> str:
        return text.replace(NUMBER, str(number))

    body: dict[str, Any] = {
        "api_sock": f"{folder}/api.sock",
        "id": f"fork-{number}",
        "stdout_path": f"{folder}/console",
        "log_path": f"{folder}/log",
        "resume_vm": not args.paused,
        "network_overrides": [
            {"iface_id": iface, "host_dev_name": own(tap)} for iface, tap in taps.items()
        ],
        "drive_overrides": [
            {"drive_id": drive, "path_on_host": os.path.abspath(own(path))}
            for drive, path in drives.items()
        ],
    }
    if args.netns is not None:
        body["netns"] = os.path.abspath(own(args.netns))
    if has_vsock:
        body["vsock_override"] = {"uds_path": f"{folder}/vsock.sock"}
    return body


def _pairs(field: str, words: Sequence[str]) -> dict[str, str]:
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            raise ConfigError(f"--{field} {word}: ID=... is wanted, such as {field}0=x{NUMBER}")
        found[name] = value
    return found


def _folders(into: str, count: int) -> list[str]:
    """So many new folders, with the lowest numbers that are free."""
    made: list[str] = []
    number = 0
    try:
        os.makedirs(into, exist_ok=True)
        while len(made) < count:
            folder = f"{into}/{number}"
            try:
                os.mkdir(folder, 0o700)
                made.append(folder)
            except FileExistsError:
                pass
            number += 1
    except OSError as error:
        for folder in made:
            _remove(folder)
        raise HostError.wrap(f"--into: {into}", error) from None
    return made


def _remove(folder: str) -> None:
    """A folder of a copy that was not made."""
    for name in ("console", "log"):
        try:
            os.unlink(f"{folder}/{name}")
        except FileNotFoundError:
            pass
    try:
        os.rmdir(folder)
    except OSError:  # somebody has put something there: it is theirs
        pass
