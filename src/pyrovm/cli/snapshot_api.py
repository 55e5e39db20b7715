"""``pyrovm snapshot create`` and ``load``: a running VMM asked over its API socket."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pyrovm.cli.ask import ask
from pyrovm.errors import HostError, StateError
from pyrovm.sdk.snapshots import Snapshot, create_request, load_request

if TYPE_CHECKING:
    import argparse
    from argparse import _SubParsersAction

WRITING_S = 3600.0  # of a large guest on a slow disk
LOOK_S = 0.02  # how often to look whether it is done


def add_parsers(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command lines of both."""
    create = commands.add_parser("create", help="save a microVM, which goes on afterwards")
    create.set_defaults(do=_create)
    load = commands.add_parser("load", help="let a VMM without a guest go on from a snapshot")
    load.set_defaults(do=_load)
    for each in (create, load):
        each.add_argument("socket", metavar="API-SOCKET", help="of pyrovm-firecracker, say")
        each.add_argument("state", metavar="STATE", help="the state file")
        each.add_argument("memory", metavar="MEMORY", nargs="?", help="the memory file (STATE.mem)")
    create.add_argument("--diff", action="store_true", help="only what changed since the last one")
    create.add_argument(
        "--live", action="store_true", help="a copy of the process writes; the guest hardly stops"
    )
    load.add_argument("--page-server", metavar="SOCKET", help="of a page-fault handler, for memory")
    load.add_argument("--paused", action="store_true", help="do not let the guest run yet")
    load.add_argument("--track-dirty-pages", action="store_true", help="for small diffs later")
    load.add_argument("--clock-realtime", action="store_true", help="set the guest's clock to now")
    load.add_argument(
        "--tap", metavar="ID=TAP", action="append", default=[], help="another tap for an interface"
    )
    load.add_argument("--vsock", metavar="PATH", help="another socket for the vsock device")


def _create(args: argparse.Namespace) -> int:
    snapshot = _files(args)
    if args.live:
        if args.diff:
            raise StateError("--live and --diff: a copy of the process writes whole snapshots")
        return _create_live(args.socket, snapshot)
    was_running = ask(args.socket, "GET", "/")["state"] == "Running"
    if was_running:
        ask(args.socket, "PATCH", "/vm", {"state": "Paused"})
    try:
        ask(args.socket, "PUT", "/snapshot/create", create_request(snapshot, diff=args.diff))
    finally:
        if was_running:
            ask(args.socket, "PATCH", "/vm", {"state": "Resumed"})
    print(f"{snapshot.state} and {snapshot.memory} are written")
    return 0


def _create_live(socket: str, snapshot: Snapshot) -> int:
    files = {"snapshot_path": snapshot.state, "mem_file_path": snapshot.memory}
    pid = ask(socket, "PUT", "/branch", {"snapshot": files})["pid"]
    deadline = time.monotonic() + WRITING_S
    while time.monotonic() < deadline:
        found = [each for each in ask(socket, "GET", "/branch")["snapshots"] if each["pid"] == pid]
        if not found:
            raise HostError(f"{socket}: the VMM knows nothing of the snapshot any more")
        if found[0]["state"] == "failed":
            raise HostError(found[0]["error"])
        if found[0]["state"] == "written":
            print(f"{snapshot.state} and {snapshot.memory} are written")
            return 0
        time.sleep(LOOK_S)
    raise HostError(f"{socket}: the snapshot is not written after {WRITING_S:g} s")


def _load(args: argparse.Namespace) -> int:
    taps: dict[str, str] = {}
    for word in args.tap:
        name, equals, tap = word.partition("=")
        if not (name and equals and tap):
            raise StateError(f"--tap {word}: ID=TAP is wanted, such as eth0=tap1")
        taps[name] = tap
    body = load_request(
        _files(args),
        page_server=_from_here(args.page_server),
        resume=not args.paused,
        track_dirty_pages=args.track_dirty_pages,
        taps=taps,
        vsock_path=_from_here(args.vsock),
        clock_realtime=args.clock_realtime,
        huge_pages="Snapshot",
    )
    ask(args.socket, "PUT", "/snapshot/load", body)
    print(f"{args.socket}: {'paused' if args.paused else 'running'}")
    return 0


def _files(args: argparse.Namespace) -> Snapshot:
    found = Snapshot.at(args.state, args.memory)
    return Snapshot(os.path.abspath(found.state), os.path.abspath(found.memory))


def _from_here(path: str | None) -> str | None:
    """A path for the VMM, whose folder may be another one."""
    return None if path is None else os.path.abspath(path)
