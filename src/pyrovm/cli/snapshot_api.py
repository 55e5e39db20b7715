"""``pyrovm snapshot create`` and ``load``: a running VMM asked over its API socket."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from pyrovm.errors import HostError, StateError
from pyrovm.sdk.http1 import ProtocolError, ResponseParser, build_request
from pyrovm.sdk.snapshots import Snapshot, create_request, load_request

if TYPE_CHECKING:
    import argparse
    from argparse import _SubParsersAction

TIMEOUT = 600.0  # seconds; a large guest on a slow disk


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
    was_running = _ask(args.socket, "GET", "/")["state"] == "Running"
    if was_running:
        _ask(args.socket, "PATCH", "/vm", {"state": "Paused"})
    try:
        _ask(args.socket, "PUT", "/snapshot/create", create_request(snapshot, diff=args.diff))
    finally:
        if was_running:
            _ask(args.socket, "PATCH", "/vm", {"state": "Resumed"})
    print(f"{snapshot.state} and {snapshot.memory} are written")
    return 0


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
    _ask(args.socket, "PUT", "/snapshot/load", body)
    print(f"{args.socket}: {'paused' if args.paused else 'running'}")
    return 0


def _files(args: argparse.Namespace) -> Snapshot:
    found = Snapshot.at(args.state, args.memory)
    return Snapshot(os.path.abspath(found.state), os.path.abspath(found.memory))


def _from_here(path: str | None) -> str | None:
    """A path for the VMM, whose folder may be another one."""
    return None if path is None else os.path.abspath(path)


def _ask(path: str, method: str, target: str, body: object = None) -> Any:
    """One request; the JSON of its answer.

    Raises:
        HostError: nobody answers there.
        StateError: the VMM refused; its words.
    """
    parser = ResponseParser()
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT)
            connection.connect(path)
            connection.sendall(build_request(method, target, body))
            while data := connection.recv(65536):
                response = parser.feed(data)
                if response is not None:
                    if not response.ok:
                        raise StateError(response.fault)
                    return response.json()
    except OSError as error:
        if error.errno is None:
            raise HostError(f"{path}: {error}") from None
        raise HostError.wrap(path, error) from None
    except ProtocolError as error:
        raise HostError(f"{path}: {error}") from None
    raise HostError(f"{path}: the VMM ended without an answer to {method} {target}")
