"""``pyrovm kernel``: guest kernels, from Debian's packages or built small."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING

from pyrovm.errors import PyrovmError
from pyrovm.guest import boot_initramfs, cache, kernel_build, kernel_config, kernel_fetch, kernels
from pyrovm.guest.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrovm.guest.kernels import Kernel


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    args = _parser().parse_args(argv)
    try:
        status: int = args.do(args)
    except PyrovmError as error:
        sys.stderr.write(f"pyrovm kernel: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyrovm kernel", description="Guest kernels, from Debian's packages or built small."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    flavours = "; ".join(f"{name}: {about}" for name, about in kernel_config.ABOUT.items())
    build = commands.add_parser(
        "build",
        help="build a lean kernel from Debian's source package, unless it is there",
        epilog=flavours,
    )
    build.add_argument("flavour", nargs="?", default="full", choices=list(kernel_config.FLAVOURS))
    build.add_argument(
        "-j", "--jobs", type=int, default=0, metavar="N", help="compilers (all CPUs)"
    )
    build.set_defaults(do=_build)

    fetch = commands.add_parser("fetch", help="download Debian's cloud kernel, unless it is there")
    fetch.set_defaults(do=_fetch)

    show = commands.add_parser("list", help="the kernels of this machine")
    show.set_defaults(do=_list)

    path = commands.add_parser("path", help="where a kernel's file is, for scripts")
    path.add_argument("name", help="a kernel's name, or its flavour: debian, full (lean), ...")
    path.add_argument(
        "--file",
        default="vmlinux",
        choices=["vmlinux", "bzImage", "config", "initramfs"],
        help="which of its files (vmlinux)",
    )
    path.set_defaults(do=_path)

    remove = commands.add_parser("remove", help="remove kernels")
    remove.add_argument("name", nargs="+")
    remove.set_defaults(do=_remove)

    for each in (build, fetch, show):
        each.add_argument("--json", action="store_true", help="for programs")
    return parser


def _build(args: argparse.Namespace) -> int:
    progress = Progress("kernel")
    kernel = kernel_build.build(args.flavour, jobs=args.jobs, progress=progress)
    progress.done(kernel.name)
    _say(args, kernel)
    return 0


def _fetch(args: argparse.Namespace) -> int:
    progress = Progress("kernel")
    kernel = kernel_fetch.fetch(progress)
    progress.done(kernel.name)
    _say(args, kernel)
    return 0


def _list(args: argparse.Namespace) -> int:
    found = kernels.installed()
    if args.json:
        print(json.dumps([_record(kernel) for kernel in found], indent=1))
        return 0
    if not found:
        print("none; get one: pyrovm kernel fetch, pyrovm kernel build")
        return 0
    width = max(len(kernel.name) for kernel in found)
    for kernel in found:
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(kernel.made))
        size = cache.size_on_disk(kernel.folder) >> 20
        print(f"{kernel.name:{width}}  {kernel.release:24}  {made}  {size:4} MiB")
    return 0


def _path(args: argparse.Namespace) -> int:
    kernel = kernels.get(args.name)
    if args.file == "initramfs":
        initramfs = boot_initramfs.path(kernel)
        if initramfs is None:
            sys.stderr.write(f"pyrovm kernel: {kernel.name} has its drivers built in\n")
            return 1
        print(initramfs)
        return 0
    print(kernel.folder / args.file)
    return 0


def _remove(args: argparse.Namespace) -> int:
    for name in args.name:
        print(f"removed {kernels.remove(name).name}")
    return 0


def _say(args: argparse.Namespace, kernel: Kernel) -> None:
    print(json.dumps(_record(kernel), indent=1) if args.json else kernel.vmlinux)


def _record(kernel: Kernel) -> dict[str, object]:
    return {
        "name": kernel.name,
        "flavour": kernel.flavour,
        "release": kernel.release,
        "source": kernel.source,
        "vmlinux": str(kernel.vmlinux),
        "bzImage": str(kernel.bzimage),
        "config": str(kernel.config),
        "modules": str(kernel.folder / "modules") if kernel.modules else None,
        "made": kernel.made,
    }
