"""The lab's images: kernel, initramfs and root file system, made from the host's own programs.

    images-OPTIONS-CONTENT/   kernel  initrd  base.ext4  manifest.json  snapshot-*/

OPTIONS is a hash of what was asked for and of the lab's own sources, CONTENT one of the files of
the host that went in.  A folder is never changed once it has its name; where something on the
host has changed since, another folder is made and the old one goes when it is the oldest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import sysconfig
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from pyrovm.guest import cache, disk, kernel_fetch, kernels, programs
from pyrovm.guest.initramfs import Initramfs
from pyrovm.guest.kernels import Kernel
from pyrovm.guest.progress import Progress, Silent
from pyrovm.lab.errors import LabError
from pyrovm.lab.stage import Stage, changed

QEMU = "qemu-system-x86_64"
_KEPT = 3  # image folders, about 400 MB each

_EARLY_MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "ext4", "crc32c_generic")
_PROGRAMS = ("bash", "curl", "ip", "iperf3", "socat", "strace", "tc")  # where the host has them
_TERMINFO = (Path("/lib/terminfo/l/linux"), Path("/usr/share/terminfo/l/linux"))
_QEMU_DATA = ("/usr/share/qemu", "/usr/share/seabios")
_NOT_STAGED = (
    *("test", "tests", "idlelib", "ensurepip", "lib2to3", "turtledemo", "tkinter"),
    *("config-*", "site-packages", "dist-packages"),
)
_SOURCES = ("agent.py", "images.py", "stage.py", "data/init", "data/early-init")
_USED = ".used"  # locked shared by who runs on these images


def cache_folder() -> Path:
    """Where everything of the lab is kept."""
    return cache.folder("lab")


class Images:
    """A folder of finished images."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kernel = folder / "kernel"
        self.initrd = folder / "initrd"
        self.base = folder / "base.ext4"
        self.manifest = folder / "manifest.json"

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep other processes from removing the images.

        Raises:
            LabError: one has just done it.
        """
        with cache.locked(self.folder.with_suffix(_USED), shared=True):
            if not self.manifest.exists():
                raise LabError(f"{self.folder} was removed meanwhile; try again")
            yield


def all_images() -> list[Images]:
    """Every folder of images in the cache, the one not used for the longest time first."""
    found = (path.parent for path in cache_folder().glob("images-*/manifest.json"))
    return [Images(folder) for folder in cache.oldest_first(found)]


def ensure(*, peer: bool = False, progress: Progress | None = None) -> Images:
    """The images for this host, built where they are missing or something has changed.

    Args:
        peer: take QEMU along, to be compared with.

    Raises:
        Unsupported: a program is missing; the message has the apt line.
    """
    return current(peer=peer) or _build_once(peer, progress or Silent(""))


def current(*, peer: bool = False) -> Images | None:
    """The images that fit the host as it is now, or None."""
    kernel = kernels.find(kernel_fetch.FLAVOUR)
    if kernel is None:
        return None
    pattern = f"images-{_options_key(peer, kernel)}-*/manifest.json"
    for manifest in cache_folder().glob(pattern):
        try:
            sources = json.loads(manifest.read_text())
        except FileNotFoundError:
            continue  # being removed
        if changed(sources) is None:
            cache.touch(manifest.parent)
            return Images(manifest.parent)
    return None


def _options_key(peer: bool, kernel: Kernel) -> str:
    """Hash of what is asked for: own sources, interpreter, programs, kernel."""
    lab = resources.files("pyrovm.lab")
    words = [str(peer), kernel.key, sys.version, sys.base_prefix]
    words += [(lab / name).read_text() for name in _SOURCES]
    words += [str(programs.find(name)) for name in _PROGRAMS]
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:12]


def _build_once(peer: bool, show: Progress) -> Images:
    programs.require(QEMU, "mke2fs", "debugfs", "busybox", "dash", "setpriv")
    folder = cache_folder()
    waiting = lambda: show.step("waiting for another process that builds the images")  # noqa: E731
    with cache.locked(folder / ".build", on_wait=waiting):
        ready = current(peer=peer)
        if ready is None:
            ready = _build(peer, show)
            show.done("images built")
        prune()
    return ready


def _build(peer: bool, show: Progress) -> Images:
    kernel = kernel_fetch.fetch(show)
    with cache.scratch(cache_folder()) as scratch:
        stage = Stage(scratch / "root")
        files = scratch / "files"
        files.mkdir()
        show.step("collecting programs")
        _stage_base(stage)
        if peer:
            _stage_peer(stage)
        show.step("collecting the Python interpreter")
        _stage_python(stage)
        show.step("collecting kernel modules")
        _stage_modules(stage, kernel)
        show.step("making the images")
        (files / "initrd").write_bytes(_initrd(kernel))
        (files / "kernel").write_bytes(kernel.bzimage.read_bytes())
        size = cache.size_on_disk(stage.root) * 5 // 4 + (256 << 20)
        disk.make_ext4(files / "base.ext4", stage.root, size_bytes=size)
        manifest = json.dumps(stage.sources)
        (files / "manifest.json").write_text(manifest)
        content = hashlib.sha256(manifest.encode()).hexdigest()[:8]
        target = cache_folder() / f"images-{_options_key(peer, kernel)}-{content}"
        cache.remove(target)
        files.rename(target)
    return Images(target)


def _stage_base(stage: Stage) -> None:
    for path in (
        *("dev", "proc", "sys", "tmp", "run", "job", "lab", "root", "mnt", "var/tmp"),
        *("etc", "bin", "sbin", "usr/bin", "usr/sbin", "usr/lib/x86_64-linux-gnu"),
    ):
        stage.add_dir(path)
    busybox = programs.static_busybox()
    stage.add_program(busybox, "/bin/busybox")
    # As a shell busybox prefers its own applets to programs of the same name; dash does not.
    (dash,) = programs.require("dash")
    stage.add_program(dash, "/bin/sh")
    for name in _PROGRAMS:
        if found := programs.find(name):
            stage.add_program(found)
    for entry in _TERMINFO:
        if entry.exists():
            stage.add_file(entry)
    for applet in programs.run(busybox, "--list").decode().split():
        stage.add_link(f"/bin/{applet}", "/bin/busybox")
    stage.add_text(
        "/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"
    )
    stage.add_text("/etc/group", "root:x:0:\nnogroup:x:65534:\n")
    stage.add_text("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")
    lab = resources.files("pyrovm.lab")
    stage.add_text("/lab/init", (lab / "data/init").read_text(), 0o755)
    stage.add_text("/lab/agent.py", (lab / "agent.py").read_text())


def _stage_peer(stage: Stage) -> None:
    (qemu,) = programs.require(QEMU)
    stage.add_program(qemu)
    for folder in map(Path, _QEMU_DATA):
        if folder.is_dir():
            stage.add_tree(folder, skip=("*.img", "*.dtb", "keymaps", "firmware", "openbios-*"))


def _stage_python(stage: Stage) -> None:
    """The running interpreter and its standard library, found as /usr/local/bin/python3, too."""
    binary = Path(os.path.realpath(sys.executable))
    stdlib = Path(sysconfig.get_path("stdlib"))
    stage.add_program(binary)
    stage.add_tree(stdlib, skip=_NOT_STAGED)
    stage.add_dir(str(stdlib / "site-packages"))
    # glibc loads it to end a thread, as threads do that still run when the interpreter ends.
    stage.add_library("libgcc_s.so.1")
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for alias in (name, "python3", "python"):
        stage.add_link(binary.parent / alias, binary)
        stage.add_link(f"/usr/local/bin/{alias}", binary)
    # Where the host has no bytecode (container images often leave it out), make it here.
    inside = stage.at(stdlib)
    programs.run(sys.executable, "-m", "compileall", "-qq", "-j0", "-s", stage.root, inside)


def _stage_modules(stage: Stage, kernel: Kernel) -> None:
    tree = kernel.modules
    if tree is None:
        raise LabError(f"the kernel {kernel.name} has no modules: fetch it again")
    target = stage.at(f"/lib/modules/{kernel.release}")
    target.parent.mkdir(parents=True, exist_ok=True)
    programs.run("cp", "-a", tree.folder, target)
    programs.run(programs.static_busybox(), "depmod", "-b", stage.root, kernel.release)


def _initrd(kernel: Kernel) -> bytes:
    tree = kernel.modules
    assert tree
    image = Initramfs()
    image.add_busybox(("sh", "mount", "cat", "insmod", "switch_root", "poweroff"))
    image.add_console()
    for path in ("dev", "new"):
        image.add_dir(path)
    image.add_modules(tree, _EARLY_MODULES)
    init = resources.files("pyrovm.lab") / "data/early-init"
    image.add_file("init", init.read_bytes(), 0o755)
    return image.build()


def prune(keep: int = _KEPT) -> list[Path]:
    """Remove all but the ``keep`` image folders used last; one in use stays."""
    removed = []
    for images in all_images()[: -keep or None]:
        used = images.folder.with_suffix(_USED)
        with cache.unless_locked(used) as free:
            if free:
                images.manifest.unlink(missing_ok=True)
                cache.remove(images.folder)
                used.unlink(missing_ok=True)
                removed.append(images.folder)
    return removed
