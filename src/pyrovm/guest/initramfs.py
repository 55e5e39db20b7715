"""Initial RAM file systems: busybox, kernel modules, an init script, whatever files.

>>> image = Initramfs()
>>> image.add_file("/init", b"#!/bin/sh\\n", mode=0o755)
>>> len(image.build()) % 4
0

The same input makes the same bytes.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pyrovm.errors import ConfigError
from pyrovm.guest import cpio, programs
from pyrovm.guest.modules import ModuleTree

MODULES_AT = "lib/early"  # the modules, and "order" with their names

LOAD_MODULES = f"""\
for m in $(cat /{MODULES_AT}/order); do insmod /{MODULES_AT}/$m.ko; done
"""


class Initramfs:
    """Files for the first root file system; folders come into being as they are needed."""

    def __init__(self) -> None:
        self._entries: dict[str, cpio.Entry] = {}

    def add_dir(self, path: str, mode: int = 0o755) -> None:
        """Add a folder; one that is there keeps its mode."""
        name = _name(path)
        for parent in reversed(PurePosixPath(name).parents[:-1]):
            self._entries.setdefault(str(parent), cpio.Entry(str(parent), stat.S_IFDIR | 0o755))
        self._entries.setdefault(name, cpio.Entry(name, stat.S_IFDIR | mode))

    def add_file(self, path: str, source: bytes | Path, mode: int | None = None) -> None:
        """Add a file: its contents, or a file of the host, whose mode is taken over."""
        if isinstance(source, Path):
            mode = stat.S_IMODE(source.stat().st_mode) if mode is None else mode
            source = source.read_bytes()
        self._add(path, stat.S_IFREG | (0o644 if mode is None else mode), source)

    def add_link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def add_device(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        """Add a character device node."""
        self._add(path, stat.S_IFCHR | mode, b"", (major, minor))

    def add_busybox(self, applets: Iterable[str] | None = None) -> None:
        """Add the host's static busybox, with links in /bin for ``applets`` (all, if None)."""
        busybox = programs.static_busybox()
        self.add_file("bin/busybox", busybox, 0o755)
        names = programs.run(busybox, "--list").decode().split() if applets is None else applets
        for name in names:
            if name != "busybox" and f"bin/{name}" not in self._entries:
                self.add_link(f"bin/{name}", "busybox")

    def add_modules(self, tree: ModuleTree, names: Iterable[str]) -> None:
        """Add modules, what they need, and their order; ``LOAD_MODULES`` in init loads them."""
        loaded = tree.closure(names)
        for name, code in loaded.items():
            self.add_file(f"{MODULES_AT}/{name}.ko", code)
        self.add_file(f"{MODULES_AT}/order", " ".join(loaded).encode())

    def add_console(self) -> None:
        """Add /dev/console, without which init has no standard output until devtmpfs is there."""
        self.add_device("dev/console", 5, 1)

    def build(self) -> bytes:
        """The archive, uncompressed: unpacking it is what a guest does fastest."""
        return cpio.pack(self._entries[name] for name in sorted(self._entries))

    def _add(self, path: str, mode: int, data: bytes, device: tuple[int, int] = (0, 0)) -> None:
        name = _name(path)
        parent = str(PurePosixPath(name).parent)
        if parent != ".":
            self.add_dir(parent)
        self._entries[name] = cpio.Entry(name, mode, data, device)


def _name(path: str) -> str:
    name = path.strip("/")
    if not name or name == cpio.TRAILER or ".." in PurePosixPath(name).parts:
        raise ConfigError(f"{path!r} is no path for a file of an initramfs")
    return str(PurePosixPath(name))


def shell_init(
    script: str, *, modules: ModuleTree | None = None, names: Iterable[str] = ()
) -> bytes:
    """An initramfs whose init runs ``script`` in busybox's shell, in a usual environment.

    /proc, /sys and /dev are mounted, PATH is set, the modules ``names`` are loaded.  The script
    is process 1: it must not end, but in ``reboot -f`` or ``poweroff -f``.
    """
    image = Initramfs()
    image.add_busybox()
    image.add_console()
    for path in ("proc", "sys", "dev", "run", "tmp", "root", "etc"):
        image.add_dir(path)
    if modules:
        image.add_modules(modules, names)
    prologue = (
        "#!/bin/sh\n"
        "export PATH=/bin HOME=/root\n"
        "mount -t proc proc /proc\n"
        "mount -t sysfs sys /sys\n"
        "mount -t devtmpfs dev /dev 2>/dev/null\n"  # the kernel may have done it
        + (LOAD_MODULES if modules else "")
    )
    image.add_file("init", (prologue + script).encode(), 0o755)
    return image.build()
