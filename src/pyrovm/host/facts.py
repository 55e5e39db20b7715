"""What this host offers to virtual machines, read from /proc, /sys and a few harmless calls.

For ``pyrovm doctor`` and tests; nothing on the path of a start reads it.  ``root`` stands in front
of every path, so that tests can bring a host of their own.
"""

from __future__ import annotations

import os
import resource

OK, MISSING, DENIED = "ok", "missing", "denied"

SYS_USERFAULTFD, SYS_IO_URING_SETUP = 323, 425
ENOSYS, EPERM, EFAULT = 38, 1, 14


def read_text(path: str, root: str = "") -> str:
    """The stripped contents of a small file; empty where it cannot be read."""
    try:
        with open(root + path) as file:
            return file.read(65536).strip()
    except OSError:
        return ""


def read_int(path: str, root: str = "") -> int | None:
    """The number in a file, or None."""
    text = read_text(path, root)
    return int(text) if text.lstrip("-").isdigit() else None


def device_access(path: str, root: str = "") -> str:
    """OK where the device can be opened for reading and writing, else MISSING or DENIED."""
    try:
        os.close(os.open(root + path, os.O_RDWR | os.O_CLOEXEC))
    except (PermissionError, BlockingIOError):
        return DENIED
    except OSError:  # no node, or a node without a driver (ENODEV, ENXIO)
        return MISSING
    return OK


def kernel_release() -> str:
    """As ``uname -r``."""
    return os.uname().release


class Cpu:
    """The first CPU of /proc/cpuinfo; ``model`` is the marketing name."""

    __slots__ = ("count", "flags", "model", "vendor")

    def __init__(self, vendor: str, model: str, flags: frozenset[str], count: int) -> None:
        self.vendor = vendor
        self.model = model
        self.flags = flags
        self.count = count


def cpu(root: str = "") -> Cpu:
    """Vendor, model and feature flags; empty strings where /proc does not say."""
    fields: dict[str, str] = {}
    for line in read_text("/proc/cpuinfo", root).splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    return Cpu(
        fields.get("vendor_id", ""),
        fields.get("model name", ""),
        frozenset(fields.get("flags", "").split()),
        os.cpu_count() or 1,
    )


def nested_virtualization(root: str = "") -> bool | None:
    """Whether guests may be hypervisors themselves; None where no module says."""
    for module in ("kvm_intel", "kvm_amd"):
        text = read_text(f"/sys/module/{module}/parameters/nested", root)
        if text:
            return text in ("Y", "1")
    return None


class HugePages:
    """The pool of 2 MiB pages (``free`` of ``total``) and the mode of transparent ones."""

    __slots__ = ("free", "total", "transparent")

    def __init__(self, total: int, free: int, transparent: str) -> None:
        self.total = total
        self.free = free
        self.transparent = transparent


def huge_pages(root: str = "") -> HugePages:
    """The state of both kinds; ``transparent`` is ``always``, ``madvise``, ``never`` or empty."""
    pool = "/sys/kernel/mm/hugepages/hugepages-2048kB"
    modes = read_text("/sys/kernel/mm/transparent_hugepage/enabled", root)
    _, _, rest = modes.partition("[")
    return HugePages(
        read_int(f"{pool}/nr_hugepages", root) or 0,
        read_int(f"{pool}/free_hugepages", root) or 0,
        rest.partition("]")[0],
    )


def userfaultfd() -> str:
    """Whether page faults of guests (which the kernel takes) can be served by user space."""
    if device_access("/dev/userfaultfd") == OK:
        return OK
    return _call_userfaultfd()


def _call_userfaultfd() -> str:
    from pyrovm.host.libc import syscall

    try:
        os.close(syscall(SYS_USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        return MISSING if error.errno == ENOSYS else DENIED
    return OK


def io_uring() -> str:
    """Whether io_uring may be used: sysctl, seccomp filters and the kernel's build all count."""
    from pyrovm.host.libc import syscall

    try:
        # With no parameters to read, a kernel that would serve us stops at them with EFAULT.
        syscall(SYS_IO_URING_SETUP, 1, 0)
    except OSError as error:
        if error.errno == EFAULT:
            return OK
        return MISSING if error.errno == ENOSYS else DENIED
    return OK


class Cgroups:
    """``version`` 0 (none), 1 or 2; ``path`` is our own group, ``delegated``: we may divide it."""

    __slots__ = ("controllers", "delegated", "path", "version")

    def __init__(
        self, version: int, path: str, controllers: tuple[str, ...], delegated: bool
    ) -> None:
        self.version = version
        self.path = path
        self.controllers = controllers
        self.delegated = delegated


def cgroups(root: str = "") -> Cgroups:
    """Which hierarchy is mounted, and whether this user may make groups in it."""
    unified, legacy = "", False
    for line in read_text("/proc/mounts", root).splitlines():
        fields = line.split()
        if len(fields) > 2 and fields[2] == "cgroup2":
            unified = unified or fields[1]
        elif len(fields) > 2 and fields[2] == "cgroup":
            legacy = True
    own = ""
    for line in read_text("/proc/self/cgroup", root).splitlines():
        hierarchy, _, path = line.split(":", 2)
        if hierarchy == "0":
            own = path
    usable = read_text(f"{unified}/cgroup.controllers", root).split() if unified else []
    if not unified or (legacy and "memory" not in usable):  # hybrid: what matters is in version 1
        return Cgroups(1 if legacy else 0, own, (), legacy and os.geteuid() == 0)
    group = f"{root}{unified}{own.rstrip('/')}"
    controllers = read_text(f"{unified}{own.rstrip('/')}/cgroup.controllers", root)
    delegated = all(os.access(path, os.W_OK) for path in (group, f"{group}/cgroup.subtree_control"))
    return Cgroups(2, own, tuple(controllers.split()), delegated)


class Limits:
    """Soft and hard limits; None is unlimited.  ``memlock`` is in bytes."""

    __slots__ = ("memlock", "nofile")

    def __init__(
        self,
        nofile: tuple[int | None, int | None],
        memlock: tuple[int | None, int | None],
    ) -> None:
        self.nofile = nofile
        self.memlock = memlock


def limits() -> Limits:
    """This process's limits of open files and locked memory."""

    def pair(which: int) -> tuple[int | None, int | None]:
        soft, hard = resource.getrlimit(which)
        infinity = resource.RLIM_INFINITY
        return (None if soft == infinity else soft, None if hard == infinity else hard)

    return Limits(pair(resource.RLIMIT_NOFILE), pair(resource.RLIMIT_MEMLOCK))


def same_page_merging(root: str = "") -> bool:
    """Whether KSM runs."""
    return read_int("/sys/kernel/mm/ksm/run", root) == 1


def swap_bytes(root: str = "") -> int:
    """The size of all swap areas."""
    total = 0
    for line in read_text("/proc/swaps", root).splitlines()[1:]:
        fields = line.split()
        if len(fields) > 2 and fields[2].isdigit():
            total += int(fields[2]) << 10
    return total


def find_program(name: str) -> str:
    """Where a program is, looking in the system's sbin folders too; empty where nowhere."""
    folders = [*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/sbin"]
    for folder in folders:
        path = f"{folder}/{name}"
        if folder and os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return ""
