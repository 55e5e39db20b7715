"""``pyrovm build``: a program with all it needs, as an image."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from pyrovm.cli.image import describe, record
from pyrovm.errors import ConfigError, PyrovmError
from pyrovm.guest.progress import Progress
from pyrovm.image.build import Options, build
from pyrovm.image.tree import DEFAULT_MAX_BYTES, MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

_EPILOG = """\
examples:
  pyrovm build ./server                            an ELF program and its libraries
  pyrovm build hello.c                             compiled, static
  pyrovm build app.py -r requirements.txt --trim   what is imported, what is required
  pyrovm build ./site -- python3 -m http.server    a folder, and the command to run in it
  pyrovm build ./rootfs --at / -- /usr/bin/redis-server"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    words = sys.argv[1:] if argv is None else list(argv)
    at = words.index("--") if "--" in words else len(words)
    args = _parser().parse_args(words[:at])
    try:
        progress = Progress("image")
        image = build(args.source, _options(args, words[at + 1 :]), progress)
        progress.done(f"{image.manifest.name} is ready")
    except PyrovmError as error:
        sys.stderr.write(f"pyrovm build: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    print(json.dumps(record(image, files=True), indent=1) if args.json else describe(image))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyrovm build",
        usage="pyrovm build [OPTION...] SOURCE [-- ARGUMENT ...]",
        description="Make an image: a program with all files that it needs. "
        "The same source makes the same image; its digest tells.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="an ELF program, a script, a .py or .c file, or a folder "
        "(with __main__.py, or a command behind --)",
    )
    parser.add_argument("--name", help="how to call the image (as the source is called)")
    parser.add_argument(
        "-e", "--env", action="append", default=[], metavar="NAME=VALUE", help="set a variable"
    )
    parser.add_argument("--cwd", metavar="PATH", help="working folder in the image")
    parser.add_argument(
        "--at", default="/app", metavar="PATH", help="where a folder's contents go (/app)"
    )
    parser.add_argument(
        "--add",
        action="append",
        default=[],
        metavar="FILE[:PATH]",
        help="one more file or folder, at the same or another path",
    )
    parser.add_argument("--python", metavar="PROGRAM", help="interpreter to take (python3)")
    parser.add_argument(
        "-r",
        "--requirement",
        action="append",
        default=[],
        metavar="FILE",
        help="install requirements into the image, by pip",
    )
    parser.add_argument(
        "--trim",
        action="store_true",
        help="of Python's standard library only what the script imports",
    )
    parser.add_argument(
        "--include",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module that --trim does not see",
    )
    parser.add_argument(
        "--site-packages",
        action="store_true",
        help="packages that are installed for the interpreter",
    )
    parser.add_argument("--tests", action="store_true", help="Python's own regression tests")
    parser.add_argument("--cc", metavar="PROGRAM", help="C compiler (musl-gcc, else gcc)")
    parser.add_argument(
        "--cflag", action="append", default=[], metavar="FLAG", help="a flag for the C compiler"
    )
    parser.add_argument(
        "--max-size",
        type=int,
        default=DEFAULT_MAX_BYTES // MIB,
        metavar="MIB",
        help=f"refuse larger contents ({DEFAULT_MAX_BYTES // MIB})",
    )
    parser.add_argument("--json", action="store_true", help="for programs, with all files")
    return parser


def _options(args: argparse.Namespace, words: list[str]) -> Options:
    env = {}
    for pair in args.env:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise ConfigError(f"--env {pair!r}: NAME=VALUE is needed")
        env[name] = value
    if args.max_size <= 0:
        raise ConfigError(f"--max-size {args.max_size}: at least 1 is needed")
    return Options(
        name=args.name,
        args=tuple(words),
        env=env,
        cwd=args.cwd,
        at=args.at,
        add=tuple(_addition(text) for text in args.add),
        python=args.python,
        requirements=tuple(args.requirement),
        trim=args.trim,
        include=tuple(args.include),
        site_packages=args.site_packages,
        tests=args.tests,
        cc=args.cc,
        cflags=tuple(args.cflag),
        max_bytes=args.max_size * MIB,
    )


def _addition(text: str) -> tuple[str, str]:
    import os

    source, _, at = text.partition(":")
    source = os.path.abspath(source)
    if not os.path.exists(source):
        raise ConfigError(f"--add {text}: {source} does not exist")
    if at and not at.startswith("/"):
        raise ConfigError(f"--add {text}: {at} is no absolute path")
    return source, at or source
