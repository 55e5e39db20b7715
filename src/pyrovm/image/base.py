"""What every image has besides its program: a few files of /etc and folders to mount upon."""

from __future__ import annotations

from pyrovm.image.tree import Tree

_WHY = "base of every image"

FILES = {
    "/etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    ),
    "/etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "/etc/hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost\n",
    "/etc/hostname": "localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n",
    # the library OS answers there, by the policy of the VM
    "/etc/resolv.conf": "nameserver 127.0.0.53\n",
}
FOLDERS = {
    "/dev": 0o755,
    "/proc": 0o555,
    "/root": 0o700,
    "/run": 0o755,
    "/sys": 0o555,
    "/tmp": 0o1777,
    "/var/tmp": 0o1777,
}
LOCALTIME = "/etc/localtime"
# TZif version 1 (RFC 8536): no transitions, one type (offset 0, no daylight saving), "UTC"
UTC = (
    b"TZif"
    + bytes(16)
    + b"".join(n.to_bytes(4, "big") for n in (0, 0, 0, 0, 1, 4))
    + bytes(6)
    + b"UTC\0"
)

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# no LANG: locales other than C are files, which are not there
ENV = {"PATH": PATH, "HOME": "/root"}


def add(tree: Tree) -> None:
    """Add what is missing of the base; what a root folder brought stays."""
    for path, text in FILES.items():
        if tree.get(path) is None:
            tree.add_file(path, text.encode(), _WHY)
    if tree.get(LOCALTIME) is None and tree.resolve(LOCALTIME) == LOCALTIME:
        tree.add_file(LOCALTIME, UTC, _WHY)
    for path, mode in FOLDERS.items():
        if tree.get(path) is None:
            tree.add_folder(path, _WHY, mode)
