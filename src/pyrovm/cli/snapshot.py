"""``pyrovm snapshot``: made, restored, looked at, checked, merged and served."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from pyrovm.cli import snapshot_api
from pyrovm.errors import HostError, PyrovmError, SnapshotError
from pyrovm.snapshot import compare, pages, rebase, state
from pyrovm.snapshot.layout import Layout
from pyrovm.snapshot.memory import open_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrovm.snapshot.pages import Range
    from pyrovm.snapshot.state import State

EXIT_DIFFERENT, EXIT_TROUBLE = 1, 2  # of diff, as diff(1) has them
SHOWN = 20  # changes, or runs of pages, that people get to see


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    args = _parser().parse_args(argv)
    try:
        status: int = args.do(args)
    except PyrovmError as error:
        if getattr(args, "json", False):
            print(json.dumps({"error": str(error)}))
        sys.stderr.write(f"pyrovm snapshot: {error}\n")
        return EXIT_TROUBLE if args.do is _diff else 1
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyrovm snapshot",
        description="A snapshot is two files: the state of a VM, and its memory.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    snapshot_api.add_parsers(commands)

    inspect = commands.add_parser("inspect", help="what a state file has in it")
    inspect.add_argument("state", metavar="STATE", help="a state file")
    inspect.add_argument("--section", metavar="NAME", help="only this section, in full")
    inspect.set_defaults(do=_inspect)

    verify = commands.add_parser("verify", help="compare checksums and sizes")
    verify.add_argument("state", metavar="STATE", help="a state file")
    verify.add_argument("memory", metavar="MEMORY", nargs="?", help="its memory file")
    verify.set_defaults(do=_verify)

    diff = commands.add_parser(
        "diff", help="what two snapshots differ in; status 1 if they do, 2 for trouble"
    )
    diff.add_argument("first", metavar="STATE", help="a state file")
    diff.add_argument("second", metavar="OTHER", help="another one")
    diff.add_argument("--memory", metavar="MEMORY", nargs=2, help="their memory files as well")
    diff.set_defaults(do=_diff)

    merge = commands.add_parser(
        "rebase", help="merge the memory file of a diff into that of the snapshot before it"
    )
    merge.add_argument("base", metavar="BASE", help="a memory file that no VM uses; is changed")
    merge.add_argument("diff", metavar="DIFF", help="the memory file of the next snapshot, a diff")
    merge.add_argument("--state", metavar="STATE", help="the diff's state file, for its parts")
    merge.add_argument("--output", metavar="FILE", help="make a new file, leave BASE as it is")
    merge.set_defaults(do=_rebase)

    serve = commands.add_parser("serve", help="handle the page faults of VMs (backend_type Uffd)")
    serve.add_argument("memory", metavar="MEMORY", help="a memory file; must stay as it is")
    serve.add_argument("socket", metavar="SOCKET", help="the backend_path to load with; is made")
    serve.add_argument("--once", action="store_true", help="end with the first VM")
    serve.add_argument(
        "--no-working-set",
        action="store_true",
        help="neither remember in MEMORY.ws what the first VM asks for, nor bring that ahead",
    )
    serve.set_defaults(do=_serve)

    for each in (inspect, verify, diff, merge):
        each.add_argument("--json", action="store_true", help="for programs")
    return parser


# ---------------------------------------------------------------- inspect


def _inspect(args: argparse.Namespace) -> int:
    found = state.read(args.state)
    if args.section is not None:
        print(json.dumps(_plain(found[args.section]), indent=1))
    elif args.json:
        print(json.dumps(record(found), indent=1))
    else:
        print(describe(found))
    return 0


def record(found: State) -> dict[str, Any]:
    """A state file for programs; bytes are ``{"$bytes": "hexadecimal"}``."""
    return {
        "version": state.version_text(found.version),
        "kind": found.kind,
        "writer": found.writer,
        "created_ns": found.created_ns,
        "size": found.size,
        "sections": {
            each.name: {
                "offset": each.offset,
                "size": each.size,
                "crc32": f"{each.crc:08x}",
                "value": _plain(found[each.name]),
            }
            for each in found.sections
        },
    }


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"$bytes": value.hex()}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def describe(found: State) -> str:
    """A state file for people."""
    layout = Layout.of(found)
    created = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.created_ns / 1e9))
    count = len(found.numbered("vcpu."))
    lines = [
        f"format   {state.version_text(found.version)}, {found.size} bytes",
        f"made     {created} by pyrovm {found.writer}",
        f"of       a {found.kind} with {count} {'vCPU' if count == 1 else 'vCPUs'}",
        f"memory   {_size(layout.size)}, {layout.snapshot_type}, huge pages: {layout.huge_pages}",
    ]
    if layout.written is not None:
        size = sum(end - start for start, end in layout.written)
        lines.append(f"changed  {_size(size)} in {len(layout.written)} parts")
    lines += [
        f"         {r.gpa:#x} to {r.gpa + r.size:#x}: from {r.offset:#x} of the file on"
        for r in layout.ranges
    ]
    lines.append("sections")
    for each in found.sections:
        fields = found[each.name]
        what = ", ".join(fields) if isinstance(fields, dict) else ""
        lines.append(f"{each.size:>9}  {each.name:10} {_printable(what)}".rstrip())
    return "\n".join(lines)


# ---------------------------------------------------------------- verify, diff, rebase


def _verify(args: argparse.Namespace) -> int:
    found = state.read(args.state)
    layout = Layout.of(found)
    facts: dict[str, Any] = {"state": args.state, "sections": len(found.sections)}
    if args.memory is not None:
        data = _data(args.memory, layout)
        written = pages.union(layout.written or (), ())
        is_alone = layout.written is not None and pages.union(written, data) == written
        facts |= {
            "memory": args.memory,
            "memory_data_bytes": sum(b - a for a, b in data),
            "is_diff_alone": is_alone,
        }
    if args.json:
        print(json.dumps(facts))
        return 0
    print(f"{args.state}: whole, {len(found.sections)} sections")
    if args.memory is not None:
        kept = _size(facts["memory_data_bytes"])
        print(f"{args.memory}: {_size(layout.size)} as the state says, {kept} of it data")
        if facts["is_diff_alone"]:
            print(
                "remark: it has what the diff has and no more; was there a snapshot before it, then"
            )
            print("        that one's memory file has to be merged with it: pyrovm snapshot rebase")
    return 0


def _data(path: str, layout: Layout) -> list[Range]:
    """Where a memory file has data.

    Raises:
        SnapshotError: it has none where its state says that something was written.
    """
    fd = open_file(path, layout)
    try:
        data = pages.data_of(fd, 0, layout.size)
    except OSError as error:
        raise HostError.wrap(path, error) from None
    finally:
        os.close(fd)
    written = layout.written or []
    there = pages.intersection(written, data)
    missing = sum(b - a for a, b in written) - sum(b - a for a, b in there)
    if missing:
        raise SnapshotError(
            f"{path}: holes where its state says that {missing // pages.PAGE} pages were written"
        )
    return data


def _diff(args: argparse.Namespace) -> int:
    first, second = (state.read(path) for path in (args.first, args.second))
    changes = compare.sections(first, second)
    ranges = compare.memory(*args.memory) if args.memory else []
    if args.json:
        listed = [{"where": c.where, "before": c.before, "after": c.after} for c in changes]
        print(json.dumps({"state": listed, "memory": [list(r) for r in ranges]}, indent=1))
        return EXIT_DIFFERENT if changes or ranges else 0
    for change in changes[:SHOWN]:
        before, after = change.before or "not there", change.after or "not there"
        print(_printable(f"{change.where}: {before} -> {after}"))
    if len(changes) > SHOWN:
        print(f"... and {len(changes) - SHOWN} more values")
    layout = Layout.of(first)
    for start, end in ranges[:SHOWN]:
        print(f"memory: {(end - start) // pages.PAGE} pages at {_gpa_of(layout, start)}")
    if len(ranges) > SHOWN:
        rest = sum(end - start for start, end in ranges[SHOWN:]) // pages.PAGE
        print(f"memory: ... and {rest} pages in {len(ranges) - SHOWN} more places")
    return EXIT_DIFFERENT if changes or ranges else 0


def _gpa_of(layout: Layout, offset: int) -> str:
    for r in layout.ranges:
        if r.offset <= offset < r.offset + r.size:
            return f"{r.gpa + offset - r.offset:#x}"
    return f"{offset:#x} of the file"


def _rebase(args: argparse.Namespace) -> int:
    written = None
    if args.state is not None:
        layout = Layout.of(state.read(args.state))
        if layout.written is None:
            raise SnapshotError(f"{args.state}: of a full snapshot, which needs no base")
        os.close(open_file(args.diff, layout))
        written = layout.written
    parts = rebase.rebase(args.base, args.diff, output=args.output, written=written)
    size = sum(end - start for start, end in parts)
    target = args.output or args.base
    if args.json:
        print(json.dumps({"memory": target, "merged_bytes": size, "parts": len(parts)}))
    else:
        print(f"{target}: {_size(size)} of {args.diff} merged, in {len(parts)} parts")
    return 0


# ---------------------------------------------------------------- serve


def _serve(args: argparse.Namespace) -> int:
    import signal

    from pyrovm.snapshot.server import Server

    def say(line: str) -> None:
        sys.stderr.write(f"pyrovm snapshot: {line}\n")

    stop = os.eventfd(0, os.EFD_CLOEXEC)
    server = Server(args.memory, args.socket, say=say, use_working_set=not args.no_working_set)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.eventfd_write(stop, 1))
    say(f"{args.memory} is served at {args.socket}")
    try:
        server.run(once=args.once, stop_fd=stop)
    finally:
        server.close()
        os.close(stop)
    return 0


def _size(size: int) -> str:
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 1 << shift:
            return f"{size / (1 << shift):.1f} {unit}"
    return f"{size} B"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
