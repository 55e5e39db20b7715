"""A folder with programs of Debian, unpacked and not installed, to make images of."""

import functools
import hashlib
import subprocess
import sys
from pathlib import Path

from pyrovm.errors import PyrovmError
from pyrovm.guest import cache, debian, programs
from tests.fakes.program_guest import TIMEOUT

PACKAGES = (
    *("fzf", "gron", "haproxy", "hexyl", "jq", "lua5.4", "memcached", "nginx", "redis-server"),
    *("ripgrep", "sqlite3"),
)
# What is for installing packages, or comes with the test's own files.
_WITHOUT = frozenset(
    (
        *("adduser", "debconf", "debconf-2.0", "dpkg", "gcc-12-base", "init-system-helpers"),
        *("install-info", "iproute2", "libnginx-mod-http-echo", "lsb-base", "nginx-common"),
        *("passwd", "perl", "perl-base", "sysvinit-utils", "tar"),
    )
)


@functools.cache
def why_not():
    """Why the packages cannot be had here, or None."""
    if any(programs.find(p) is None for p in ("apt-get", "dpkg-deb", "mkfs.erofs")):
        return "apt, dpkg and erofs-utils are needed"
    try:
        root()
    except PyrovmError as error:
        return f"the packages cannot be had: {error}"
    return None


@functools.cache
def root():
    """The folder, made if the cache has none of the current packages."""
    packages = debian.closure(PACKAGES, without=_WITHOUT)
    key = hashlib.sha256("".join(p.filename for p in packages).encode()).hexdigest()[:12]
    store = cache.folder("tests", "real")
    made = store / key
    with cache.locked(store / ".build"):
        if not made.exists():
            with cache.scratch(store) as scratch:
                for name in ("bin", "sbin", "lib", "lib64"):
                    (scratch / "root" / "usr" / name).mkdir(parents=True)
                    (scratch / "root" / name).symlink_to(f"usr/{name}")
                for deb in debian.download_all(packages):
                    debian.unpack(deb, scratch / "root", _is_wanted)
                (scratch / "root").rename(made)
    return made


def _is_wanted(path):
    return not {"doc", "man", "locale", "lintian", "bash-completion"}.intersection(path.parts)


def image(program):
    """The name of an image of the folder whose program is ``program``, a path in it."""
    name = f"real-{Path(program).name}"
    words = ["build", str(root()), "--at", "/", "--name", name, "--", program]
    subprocess.run(
        [sys.executable, "-m", "pyrovm.cli.main", *words],
        check=True,
        capture_output=True,
        timeout=TIMEOUT,
    )
    return name
