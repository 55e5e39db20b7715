"""Who else can do it: the peers that are looked for on this machine.

Every one is used where it is installed and named among what was skipped where it is not.  What
runs Linux guests does so in the lab, on the same KVM as ours; what runs programs does so natively.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import subprocess
from pathlib import Path

from pyrovm.bench.terms import Terms
from pyrovm.guest import programs

TIMEOUT = 10.0  # seconds, for its version


@dataclasses.dataclass(frozen=True)
class Peer:
    """Something that starts a program or a guest, and how to find it."""

    name: str
    program: str = ""  # on the PATH
    module: str = ""  # or to import
    hint: str = ""  # how to get it
    version_words: tuple[str, ...] = ("--version",)

    @property
    def path(self) -> Path | None:
        """Where its program is, or None."""
        return programs.find(self.program) if self.program else None

    @property
    def is_there(self) -> bool:
        """Whether it can be used."""
        if self.module:
            return importlib.util.find_spec(self.module) is not None
        return self.path is not None

    def version(self) -> str:
        """What it says of itself, in a few words; empty where it does not."""
        if self.module:
            return importlib.metadata.version(self.module)
        if not self.version_words:
            return ""
        words = [str(self.path), *self.version_words]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return version_of(done.stdout)


def version_of(text: str) -> str:
    """The version in what a program prints first.

    >>> version_of("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\\nCopyright\\n")
    '7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)'
    >>> version_of("crun version 1.8.1\\ncommit: f8a096be"), version_of("Firecracker v1.15.0")
    ('1.8.1', 'v1.15.0')
    """
    first = text.strip().splitlines()[:1]
    for word in ("version ", "Version ", " v", " "):
        _, found, rest = (first[0] if first else "").partition(word)
        if found:
            return f"v{rest}" if word == " v" else rest
    return first[0] if first else ""


DEBIAN = "apt-get install {}"
QEMU = Peer("QEMU microvm", "qemu-system-x86_64", hint=DEBIAN.format("qemu-system-x86"))
FIRECRACKER = Peer("Firecracker", "firecracker", hint="put firecracker on the PATH")
CLOUD_HYPERVISOR = Peer(
    "Cloud Hypervisor", "cloud-hypervisor", hint="put cloud-hypervisor on the PATH"
)
KVMTOOL = Peer("kvmtool", "lkvm", hint="put lkvm on the PATH", version_words=("version",))
SOLO5 = Peer("Solo5 hvt tender", "solo5-hvt", hint="put solo5-hvt on the PATH")
MICROSANDBOX = Peer("microsandbox", "msb", hint="put msb on the PATH")
BOXLITE = Peer("boxlite", module="boxlite", hint="pip install boxlite")
UNSHARE = Peer("unshare", "unshare", hint=DEBIAN.format("util-linux"))
BUBBLEWRAP = Peer("bubblewrap", "bwrap", hint=DEBIAN.format("bubblewrap"))
CRUN = Peer("crun", "crun", hint=DEBIAN.format("crun"))
RUNC = Peer("runc", "runc", hint=DEBIAN.format("runc"))
GVISOR = Peer("gVisor", "runsc", hint="put runsc on the PATH")

VMMS = (QEMU, FIRECRACKER, CLOUD_HYPERVISOR, KVMTOOL)  # of Linux guests
CONTAINERS = (UNSHARE, BUBBLEWRAP, CRUN, RUNC, GVISOR)
BOXES = (MICROSANDBOX, BOXLITE)  # Linux guests that run containers' images
ALL = (*VMMS, SOLO5, *BOXES, *CONTAINERS)

PROCESS = "a plain process"


def usable(peers: tuple[Peer, ...], terms: Terms, skipped: list[str]) -> list[Peer]:
    """Those that are wanted and there; the others go to ``skipped``."""
    found = []
    for peer in peers:
        if not terms.wants(peer.name):
            skipped.append(f"{peer.name}: not asked for")
        elif not peer.is_there:
            skipped.append(f"{peer.name}: not installed ({peer.hint})")
        else:
            found.append(peer)
    return found
