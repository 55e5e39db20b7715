"""Programs of the host, and which Debian package brings each."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pyrovm.errors import HostError, Unsupported

PACKAGE_OF = {
    "apt-cache": "apt",
    "apt-get": "apt",
    "bc": "bc",
    "bison": "bison",
    "busybox": "busybox-static",
    "dash": "dash",
    "debugfs": "e2fsprogs",
    "dpkg-deb": "dpkg",
    "flex": "flex",
    "gcc": "gcc",
    "lz4": "lz4",
    "make": "make",
    "mkfs.erofs": "erofs-utils",
    "mke2fs": "e2fsprogs",
    "musl-gcc": "musl-tools",
    "perl": "perl",
    "qemu-system-x86_64": "qemu-system-x86",
    "setpriv": "util-linux",
    "strip": "binutils",
    "tar": "tar",
    "xz": "xz-utils",
    "zstd": "zstd",
}

_SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"  # not on a user's PATH


def find(program: str) -> Path | None:
    """Where ``program`` is, or None."""
    found = shutil.which(program) or shutil.which(program, path=_SYSTEM_PATH)
    return Path(found) if found else None


def require(*programs: str) -> list[Path]:
    """Where the programs are, in order.

    Raises:
        Unsupported: some are missing; the message names all of them and the apt line to type.
    """
    found = [find(program) for program in programs]
    present = [path for path in found if path]
    if len(present) < len(programs):
        raise missing([p for p, path in zip(programs, found, strict=True) if not path])
    return present


def missing(programs: list[str], packages: list[str] | None = None) -> Unsupported:
    """The error for ``programs`` that are not there; ``packages`` where they are already known."""
    wanted = packages or sorted({PACKAGE_OF.get(program, program) for program in programs})
    sudo = "" if os.geteuid() == 0 else "sudo "
    return Unsupported(
        f"not found: {', '.join(programs)}; on Debian: "
        f"{sudo}apt-get install --no-install-recommends {' '.join(wanted)}"
    )


def static_busybox() -> Path:
    """A busybox that needs no library.

    Raises:
        Unsupported: there is none; Debian's ``busybox`` is dynamic, ``busybox-static`` is not.
    """
    (path,) = require("busybox")
    if b"/ld-linux" in path.read_bytes()[:4096]:  # PT_INTERP lies just behind the headers
        raise missing([f"a static busybox ({path} is dynamic)"], ["busybox-static"])
    return path


def run(
    *argv: str | Path,
    cwd: Path | None = None,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
) -> bytes:
    """Run a program to its end; its standard output.

    Raises:
        HostError: it failed; the message has the end of what it wrote to standard error.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            capture_output=True,
            cwd=cwd,
            env=None if env is None else {**os.environ, **env},
            check=False,
        )
    except FileNotFoundError:
        raise missing([words[0]]) from None
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise HostError(f"{words[0]} failed with status {done.returncode}: {said[-800:]}")
    return done.stdout
