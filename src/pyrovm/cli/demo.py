"""``pyrovm demo``: programs in VMs of their own, or a Debian guest with disk, network and vsock.

Programs run on any KVM, and without one by Unicorn (``pyrovm[unicorn]``).  The Debian guest runs
right here on hardware KVM; on a machine whose KVM cannot run Linux guests, or that has none, it
runs in the lab, and the demonstration says so.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from pyrovm.cli import demo_programs
from pyrovm.cli.demo_guest import show
from pyrovm.errors import PyrovmError
from pyrovm.guest import boot_initramfs, demo, disk, kernel_fetch, kernels
from pyrovm.guest.progress import Progress
from pyrovm.kvm.system import Kvm
from pyrovm.machine.probe import HARDWARE, kvm_kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrovm.guest.kernels import Kernel

DATA_MIB = 16
NOTE = "/note.txt"
LAB_TIMEOUT = 240.0  # seconds


def main(argv: Sequence[str]) -> int:
    """The exit status: 0 if everything was shown."""
    options = _parser().parse_args(argv)
    if options.what != "linux":
        status = demo_programs.show()
        if status or options.what == "programs":
            return status
        print(flush=True)
    return show_linux(options)


def show_linux(options: argparse.Namespace) -> int:
    """The Debian guest; the exit status."""
    reason = "it was asked for" if options.lab else why_not_here()
    progress = Progress("demo")
    kernel = choose_kernel(options.kernel, progress)
    files = {"kernel": kernel.vmlinux, "root.ext4": demo.root_disk(progress)}
    initramfs = boot_initramfs.path(kernel)
    if initramfs is not None:
        files["initrd"] = initramfs
    progress.done()
    with tempfile.TemporaryDirectory(prefix="pyrovm-demo-") as folder:
        data = Path(folder, "data.ext4")
        Path(folder, "empty").mkdir()
        disk.make_ext4(data, Path(folder, "empty"), size_bytes=DATA_MIB << 20)
        if not reason:
            print(f"This machine's KVM runs Linux guests: starting {kernel.release} here.\n")
            status = show(files | {"data.ext4": data})
        else:
            print(f"The guest runs in the lab, a software-emulated KVM host: {reason}.")
            print("Everything takes some thirty times longer there than on hardware.\n", flush=True)
            status = in_lab(files, data, progress)
        if status == 0:
            note = disk.read_file(data, NOTE).decode().splitlines()
            print(f"read back from the disk's file: {' | '.join(note)}")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pyrovm demo", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("all", "programs", "linux"), default="programs",
        help="which part (default programs)")  # fmt: skip
    parser.add_argument("--kernel", help="another kernel than the best one in the cache")
    parser.add_argument("--lab", action="store_true", help="in the lab, whatever this machine has")
    return parser


def why_not_here() -> str:
    """Why this machine cannot run Linux guests itself; empty if it can."""
    try:
        with Kvm() as kvm:
            if kvm_kind(kvm) == HARDWARE:
                return ""
    except PyrovmError as error:
        return f"{error}".split(". ")[0]
    return "this machine's KVM is software-only and cannot run Linux"


def choose_kernel(name: str | None, progress: Progress) -> Kernel:
    """The kernel asked for, else a lean one if there is one, else Debian's, fetched if need be."""
    if name is not None:
        return kernels.get(name)
    return kernels.find("full") or kernels.find("debian") or kernel_fetch.fetch(progress)


def in_lab(files: dict[str, Path], data: Path, progress: Progress) -> int:
    """Run this demonstration in the lab; its exit status.  ``data`` is replaced by what it left."""
    from pyrovm.lab import Lab

    package = Path(__file__).resolve().parent.parent
    with Lab(progress=progress) as lab:
        result = lab.run(
            ["python3", "-m", "pyrovm.cli.demo_guest"],
            tree={"src/pyrovm": package, "data.ext4": data},
            assets=files,
            env={"PYTHONPATH": "/job/tree/src"},
            timeout=LAB_TIMEOUT,
            out=data.parent,
            stdout=lambda piece: os.write(1, piece),
            stderr=lambda piece: os.write(2, piece),
        )
    return result.status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
