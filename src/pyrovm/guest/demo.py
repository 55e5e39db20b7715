"""The demonstration guest: a small Debian on an ext4 disk, made without root and without chroot.

Its init (data/demo-init) runs one command from the kernel's command line, or a shell on the
serial console, reports the exit status there and stops the machine.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections.abc import Sequence
from importlib import resources
from pathlib import Path, PurePosixPath

from pyrovm.guest import cache, debian, disk
from pyrovm.guest.progress import Progress, Silent

PACKAGES = (
    *("base-files", "bash", "busybox-static", "coreutils", "curl", "dash", "findutils", "grep"),
    *("hostname", "iproute2", "iputils-ping", "mawk", "mount", "procps", "sed", "socat"),
    "util-linux",
)

# What these depend on for their installation or for rare cases, but not to run.
_WITHOUT = (
    *("awk", "debconf", "dpkg", "init-system-helpers", "install-info", "libaudit-common"),
    *("libc-bin", "libdb5.3", "libsasl2-modules-db", "libtirpc-common", "perl", "perl-base"),
    *("readline-common", "sensible-utils", "tar", "usrmerge", "util-linux-extra"),
)

_NOT_IN_SHARE = frozenset(
    {
        *("bash-completion", "bug", "common-licenses", "doc", "gcc", "info", "lintian", "locale"),
        *("man", "menu", "zoneinfo"),
    }
)
_KEPT = 2  # disks
_FREE_BYTES = 64 << 20

_STATUS = re.compile(r"^pyrovm-guest: exit status (\d+)\r?$", re.M)


def root_disk(progress: Progress | None = None) -> Path:
    """The guest's root disk, made if the cache has none of the current packages.

    It is shared: attach it read-only, or a copy of it.

    Raises:
        Unsupported: this is no Debian, or programs are missing.
        HostError: a download failed.
    """
    show = progress or Silent("")
    init = (resources.files("pyrovm.guest") / "data/demo-init").read_text()
    store = cache.folder("demo")
    show.step("asking apt for the guest's packages")
    packages = debian.closure(PACKAGES, without=_WITHOUT)
    words = [package.filename for package in packages]
    key = hashlib.sha256("\0".join([init, *words]).encode()).hexdigest()[:12]
    image = store / f"root-{key}.ext4"
    with cache.locked(store / ".build", on_wait=lambda: show.step("waiting for another process")):
        if not image.exists():
            show.step(f"downloading {len(packages)} packages")
            debs = debian.download_all(packages)
            with cache.scratch(store) as scratch:
                _fill(scratch / "root", debs, init, show)
                show.step("making the disk")
                made = scratch / "image"
                size = cache.size_on_disk(scratch / "root") * 9 // 8 + _FREE_BYTES
                disk.make_ext4(
                    made, scratch / "root", size_bytes=size, label="demo", reproducible=True
                )
                made.rename(image)
            show.done("the guest's disk is made")
    cache.touch(image)
    for old in cache.oldest_first(store.glob("root-*.ext4"))[:-_KEPT]:
        old.unlink(missing_ok=True)
    return image


def boot_args(
    command: Sequence[str] | str | None = None,
    *,
    address: str = "",
    gateway: str = "",
    netmask: str = "255.255.255.0",
    dns: str = "",
) -> str:
    """The kernel command line's words for this guest.

    Args:
        command: what to run: words, or a script for bash; None: an interactive shell.
    """
    words = []
    if address:
        words.append(f"ip={address}::{gateway}:{netmask}::eth0:off")
    if dns:
        words.append(f"pyrovm.dns={dns}")
    if command:
        script = command if isinstance(command, str) else shlex.join(command)
        words.append(f"pyrovm.cmd={base64.b64encode(script.encode()).decode()}")
    return " ".join(words)


def exit_status(console: str) -> int | None:
    """The command's status as the guest wrote it on its serial console, or None."""
    found = _STATUS.findall(console)
    return int(found[-1]) if found else None


def _fill(root: Path, debs: Sequence[Path], init: str, show: Progress) -> None:
    """Unpack the packages to ``root`` and do the little that their scripts would have done."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")
    show.step(f"unpacking {len(debs)} packages")
    for number, deb in enumerate(debs):
        debian.unpack(deb, root, _wanted)
        show.at((number + 1) / len(debs))
    for name in ("dev", "proc", "sys", "tmp", "run", "root"):
        (root / name).mkdir(exist_ok=True)
    etc = root / "etc"
    (etc / "passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    (etc / "group").write_text("root:x:0:\n")
    (etc / "hosts").write_text("127.0.0.1 localhost demo\n::1 localhost\n")
    (etc / "resolv.conf").symlink_to("/run/resolv.conf")
    for link, target in (("usr/bin/awk", "mawk"), ("usr/bin/sh", "dash")):
        if not (root / link).is_symlink():
            (root / link).symlink_to(target)
    (root / "usr/sbin/init").write_text(init)
    (root / "usr/sbin/init").chmod(0o755)
    for applet in ("reboot", "poweroff"):
        (root / "usr/sbin" / applet).symlink_to("/usr/bin/busybox")


def _wanted(path: PurePosixPath) -> bool:
    parts = path.parts
    if parts[:2] == ("usr", "share"):
        return not (len(parts) > 2 and parts[2] in _NOT_IN_SHARE)
    return "gconv" not in parts
