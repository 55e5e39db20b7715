"""``pyrovm image``: the images of this machine."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING

from pyrovm.errors import HostError, PyrovmError
from pyrovm.image import store
from pyrovm.image.store import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

SHORT = 12  # digits of a digest


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    args = _parser().parse_args(argv)
    try:
        status: int = args.do(args)
    except PyrovmError as error:
        sys.stderr.write(f"pyrovm image: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyrovm image", description="Images made by pyrovm build, or by a first pyrovm run."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    show = commands.add_parser("list", help="the images of this machine")
    show.set_defaults(do=_list)

    inspect = commands.add_parser("inspect", help="what an image runs, what is in it and why")
    inspect.add_argument("image", metavar="IMAGE", help="a name, or the first digits of a digest")
    inspect.add_argument("--files", action="store_true", help="every file")
    inspect.add_argument("--verify", action="store_true", help="compare contents with the digest")
    inspect.set_defaults(do=_inspect)

    remove = commands.add_parser("remove", help="remove images; running VMs keep them")
    remove.add_argument("image", metavar="IMAGE", nargs="+")
    remove.set_defaults(do=_remove)

    prune = commands.add_parser(
        "prune", help="remove what has no name and is not what a program runs from any more"
    )
    prune.set_defaults(do=_prune)

    export = commands.add_parser("export", help="write an image into one file, a tar")
    export.add_argument("image", metavar="IMAGE")
    export.add_argument("file", metavar="FILE", help="- for standard output")
    export.set_defaults(do=_export)

    importing = commands.add_parser("import", help="take in an exported image")
    importing.add_argument("file", metavar="FILE", help="- for standard input")
    importing.add_argument("--name", help="how to call it (as it was called)")
    importing.set_defaults(do=_import)

    for each in (show, inspect, importing):
        each.add_argument("--json", action="store_true", help="for programs")
    return parser


def describe(image: Image, *, files: bool = False) -> str:
    """An image for people: what it runs, and what is in it by reason, the largest first."""
    manifest = image.manifest
    lines = [
        f"name     {', '.join(image.names) or f'{manifest.name} (not registered)'}",
        f"digest   sha256:{image.digest}",
        f"runs     {' '.join(manifest.argv)}",
        f"program  {manifest.exe}",
        f"folder   {manifest.cwd}",
        f"size     {_size(manifest.root_size_bytes)}, {len(manifest.files)} files",
    ]
    lines += [f"env      {name}={value}" for name, value in sorted(manifest.env.items())]
    if files:
        for path, file in sorted(manifest.files.items()):
            lines.append(f"{_size(file.size_bytes):>11}  {path}  ({file.why})")
    else:
        for why, paths in _by_reason(image):
            size = sum(manifest.files[path].size_bytes for path in paths)
            what = paths[0] if len(paths) == 1 else f"{len(paths)} files"
            lines.append(f"{_size(size):>11}  {why}: {what}")
    lines += [f"remark: {text}" for text in manifest.remarks]
    return "\n".join(_printable(line) for line in lines)


def record(image: Image, *, files: bool = False) -> dict[str, object]:
    """An image for programs."""
    manifest = image.manifest
    found: dict[str, object] = {
        "digest": f"sha256:{image.digest}",
        "name": manifest.name,
        "names": image.names,
        "argv": manifest.argv,
        "exe": manifest.exe,
        "env": dict(manifest.env),
        "cwd": manifest.cwd,
        "root": str(image.root),
        "root_sha256": manifest.root_sha256,
        "size_bytes": manifest.root_size_bytes,
        "remarks": manifest.remarks,
    }
    if files:
        found["files"] = {
            path: {"size_bytes": file.size_bytes, "why": file.why}
            for path, file in sorted(manifest.files.items())
        }
    return found


def _by_reason(image: Image) -> list[tuple[str, list[str]]]:
    groups: dict[str, list[str]] = {}
    for path, file in sorted(image.manifest.files.items()):
        groups.setdefault(file.why, []).append(path)
    sizes = image.manifest.files
    return sorted(
        groups.items(), key=lambda group: (-sum(sizes[p].size_bytes for p in group[1]), group[0])
    )


def _list(args: argparse.Namespace) -> int:
    images = store.installed()
    if args.json:
        print(json.dumps([record(image) for image in images], indent=1))
        return 0
    if not images:
        print("none; make one: pyrovm build PROGRAM, pyrovm run PROGRAM")
        return 0
    titles = [", ".join(image.names) or f"({image.manifest.name})" for image in images]
    width = max(len(title) for title in titles)
    for title, image in zip(titles, images, strict=True):
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(image.folder.stat().st_mtime))
        size = _size(image.manifest.root_size_bytes)
        words = _printable(" ".join(image.manifest.argv))
        print(f"{title:{width}}  {image.digest[:SHORT]}  {made}  {size:>10}  {words}")
    return 0


def _inspect(args: argparse.Namespace) -> int:
    image = Image.load(args.image)
    if args.verify:
        image.verify()
    if args.json:
        print(json.dumps(record(image, files=True), indent=1))
    else:
        print(describe(image, files=args.files))
    return 0


def _remove(args: argparse.Namespace) -> int:
    for word in args.image:
        print(f"removed {store.remove(word)[:SHORT]}")
    return 0


def _prune(args: argparse.Namespace) -> int:
    for digest in store.prune():
        print(f"removed {digest[:SHORT]}")
    return 0


def _export(args: argparse.Namespace) -> int:
    if args.file == "-":
        store.export(args.image, sys.stdout.buffer)
        return 0
    Image.load(args.image)  # before a file is made
    try:
        with open(args.file, "wb") as file:
            store.export(args.image, file)
    except OSError as error:
        raise HostError.wrap(args.file, error) from None
    return 0


def _import(args: argparse.Namespace) -> int:
    if args.file == "-":
        image = store.import_(sys.stdin.buffer, args.name)
    else:
        try:
            with open(args.file, "rb") as file:
                image = store.import_(file, args.name)
        except OSError as error:
            raise HostError.wrap(args.file, error) from None
    print(json.dumps(record(image), indent=1) if args.json else describe(image))
    return 0


def _size(size: int) -> str:
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 1 << shift:
            return f"{size / (1 << shift):.1f} {unit}"
    return f"{size} B"


def _printable(text: str) -> str:
    """Text of an image that may come from anywhere, without what a terminal would obey."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
