"""The findings of ``pyrovm doctor``: what this host has, what a lack blocks, what would help."""

from __future__ import annotations

import sys

from pyrovm.errors import PyrovmError
from pyrovm.host import facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyrovm.kvm.system import Kvm

GOOD, NOTE, BAD = "ok", "note", "problem"

MINIMUM_NOFILE = 1024
HUGE_PAGES_FOR_A_GUEST = 64  # 128 MiB, Firecracker's default memory


class Finding:
    """One line of the report.

    ``state``: GOOD; NOTE, something optional is absent; BAD, something does not work.  ``blocks``
    and ``fix`` are empty where there is nothing to say.
    """

    __slots__ = ("blocks", "fix", "name", "state", "value")

    def __init__(self, name: str, state: str, value: str, blocks: str = "", fix: str = "") -> None:
        self.name = name
        self.state = state
        self.value = value
        self.blocks = blocks
        self.fix = fix

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {name: getattr(self, name) for name in ("name", "state", "value", "blocks", "fix")}


LAB = "run it in the lab: pyrovm lab run -- ..."
EVERYTHING = "every guest"
LINUX = "Linux guests"


class Report:
    """All findings, and whether a Linux guest can run."""

    def __init__(self, device: str = "/dev/kvm") -> None:
        self.linux_guests = False
        self.findings = [
            *self._kvm(device),
            *_cpu(),
            *_devices(),
            *_memory(),
            *_kernel(),
            *_lab(),
            _unicorn(),
        ]

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "linux_guests": self.linux_guests,
            "findings": [finding.to_json() for finding in self.findings],
        }

    def _kvm(self, device: str) -> Iterator[Finding]:
        access = facts.device_access(device)
        if access == facts.MISSING:
            fix = f"load kvm_intel or kvm_amd, enable VT-x or SVM in the firmware; or {LAB}"
            yield Finding("kvm", BAD, f"no {device}", EVERYTHING, fix)
            return
        if access == facts.DENIED:
            fix = f"join the group of {device} (usually 'kvm'), or set an ACL on it"
            yield Finding("kvm", BAD, f"no permission to open {device}", EVERYTHING, fix)
            return
        from pyrovm.kvm.system import Kvm

        try:
            kvm = Kvm(device)
        except PyrovmError as error:
            yield Finding("kvm", BAD, str(error), EVERYTHING, LAB)
            return
        with kvm:
            yield Finding("kvm", GOOD, f"{device}, API version 12")
            yield from self._kvm_abilities(kvm)

    def _kvm_abilities(self, kvm: Kvm) -> Iterator[Finding]:
        from pyrovm.machine import probe

        missing = kvm.missing_capabilities()
        if missing:
            yield Finding(
                "kvm capabilities",
                BAD,
                "without " + ", ".join(missing),
                EVERYTHING,
                "use a newer kernel",
            )
        else:
            yield Finding("kvm capabilities", GOOD, "all that are required")
        try:
            kind = probe.kvm_kind(kvm, thorough=True)
        except PyrovmError as error:
            yield Finding("kvm kind", BAD, str(error), EVERYTHING, LAB)
            return
        if kind == probe.HARDWARE:
            self.linux_guests = not missing
            yield Finding("kvm kind", GOOD, "hardware: guest kernels run natively")
        else:
            yield Finding(
                "kvm kind",
                BAD,
                "software-only: guest kernels are interpreted, only user mode is native",
                LINUX,
                f"use a host with VMX or SVM, or {LAB}",
            )
        yield _nested()


def _unicorn() -> Finding:
    from pyrovm.unikernel.unicorn_cpu import is_there

    if is_there():
        return Finding(
            "unicorn", GOOD, "programs can run without KVM (pyrovm run --engine unicorn)"
        )
    blocks = "programs without KVM (pyrovm run --engine unicorn)"
    return Finding("unicorn", NOTE, "not installed", blocks, "pip install 'pyrovm[unicorn]'")


def _nested() -> Finding:
    nested = facts.nested_virtualization()
    if nested is None:
        return Finding("nested virtualization", NOTE, "unknown", "hypervisors inside guests")
    if nested:
        return Finding("nested virtualization", GOOD, "on")
    fix = "reload kvm_intel or kvm_amd with nested=1"
    return Finding("nested virtualization", NOTE, "off", "hypervisors inside guests", fix)


def _cpu() -> Iterator[Finding]:
    cpu = facts.cpu()
    kind = ", itself a virtual machine" if "hypervisor" in cpu.flags else ""
    name = " ".join(part for part in (cpu.vendor, cpu.model) if part) or "unknown"
    yield Finding("cpu", GOOD, f"{name}, {cpu.count} CPU{'s' * (cpu.count > 1)}{kind}")


def _devices() -> Iterator[Finding]:
    for name, path, blocks, fix in (
        ("tun", "/dev/net/tun", "network interfaces", "modprobe tun"),
        ("vhost-net", "/dev/vhost-net", "the kernel's network path (vhost)", "modprobe vhost_net"),
        (
            "vhost-vsock",
            "/dev/vhost-vsock",
            "the kernel's vsock path (vhost)",
            "modprobe vhost_vsock",
        ),
    ):
        access = facts.device_access(path)
        if access == facts.OK:
            yield Finding(name, GOOD, path)
        elif access == facts.DENIED:
            how = f"give this user access to {path}"
            yield Finding(name, NOTE, f"no permission to open {path}", blocks, how)
        else:
            yield Finding(name, NOTE, f"no {path}", blocks, fix)


def _memory() -> Iterator[Finding]:
    pages = facts.huge_pages()
    pool = f"{pages.free} of {pages.total} (2 MiB each) free"
    if pages.free >= HUGE_PAGES_FOR_A_GUEST:
        yield Finding("huge pages", GOOD, pool)
    else:
        fix = "echo 512 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
        yield Finding("huge pages", NOTE, pool, 'huge_pages "2M"', fix)
    if pages.transparent in ("always", "madvise"):
        yield Finding("transparent huge pages", GOOD, pages.transparent)
    else:
        fix = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"
        value = pages.transparent or "not in this kernel"
        yield Finding("transparent huge pages", NOTE, value, 'huge_pages "Transparent"', fix)
    yield _userfaultfd()
    swap = facts.swap_bytes()
    if swap:
        blocks = "exact diff snapshots without track_dirty_pages"
        yield Finding("swap", NOTE, f"{swap >> 20} MiB", blocks, "swapoff -a")
    else:
        yield Finding("swap", GOOD, "none")
    if facts.same_page_merging():
        blocks = "separation of guests (side channels through shared pages)"
        yield Finding("same-page merging", NOTE, "on", blocks, "echo 0 > /sys/kernel/mm/ksm/run")
    else:
        yield Finding("same-page merging", GOOD, "off")


def _userfaultfd() -> Finding:
    access = facts.userfaultfd()
    if access == facts.OK:
        return Finding("userfaultfd", GOOD, "usable")
    blocks = "restoring from a page server, post-copy migration"
    if access == facts.MISSING:
        return Finding("userfaultfd", NOTE, "not in this kernel", blocks, "CONFIG_USERFAULTFD=y")
    fix = "give this user access to /dev/userfaultfd, or sysctl vm.unprivileged_userfaultfd=1"
    return Finding("userfaultfd", NOTE, "not permitted", blocks, fix)


def _kernel() -> Iterator[Finding]:
    yield Finding("kernel", GOOD, f"Linux {facts.kernel_release()}")
    version = ".".join(str(part) for part in sys.version_info[:3])
    yield Finding("python", GOOD, f"{version}, {sys.executable}")
    uring = facts.io_uring()
    if uring == facts.OK:
        yield Finding("io_uring", GOOD, "usable")
    elif uring == facts.MISSING:
        yield Finding("io_uring", NOTE, "not in this kernel", 'io_engine "Async"')
    else:
        fix = "sysctl kernel.io_uring_disabled=0; look for a seccomp filter"
        yield Finding("io_uring", NOTE, "not permitted", 'io_engine "Async"', fix)
    yield _cgroups()
    yield from _limits()


def _cgroups() -> Finding:
    groups = facts.cgroups()
    if groups.version == 0:
        blocks = "resource limits (jailer --cgroup)"
        return Finding(
            "cgroups", NOTE, "none mounted", blocks, "mount -t cgroup2 none /sys/fs/cgroup"
        )
    if groups.version == 1:
        blocks = "limits without root, the unified hierarchy"
        return Finding("cgroups", NOTE, "version 1", blocks, "boot with a cgroup v2 hierarchy")
    names = " ".join(groups.controllers) or "no controllers"
    if groups.delegated:
        return Finding("cgroups", GOOD, f"version 2, ours to divide: {names}")
    fix = "systemd-run --user --scope -p Delegate=yes ..."
    return Finding("cgroups", NOTE, f"version 2, {names}", "resource limits without root", fix)


def _limits() -> Iterator[Finding]:
    limits = facts.limits()
    soft, hard = limits.nofile
    text = f"{_limit(soft)} soft, {_limit(hard)} hard"
    if soft is None or soft >= MINIMUM_NOFILE:
        yield Finding("open files", GOOD, text)
    else:
        fix = f"ulimit -n {MINIMUM_NOFILE}"
        yield Finding("open files", NOTE, text, "machines with many devices or streams", fix)
    soft, hard = (None if value is None else value >> 10 for value in limits.memlock)
    yield Finding("locked memory", GOOD, f"{_limit(soft)} KiB soft, {_limit(hard)} KiB hard")


def _limit(value: int | None) -> str:
    return "unlimited" if value is None else str(value)


def _lab() -> Iterator[Finding]:
    wanted = {
        "qemu-system-x86_64": "qemu-system-x86",
        "mke2fs": "e2fsprogs",
        "debugfs": "e2fsprogs",
        "busybox": "busybox-static",
    }
    missing = [name for name in wanted if not facts.find_program(name)]
    if not missing:
        yield Finding("lab programs", GOOD, ", ".join(wanted))
    else:
        packages = " ".join(dict.fromkeys(wanted[name] for name in missing))
        yield Finding(
            "lab programs",
            NOTE,
            "without " + ", ".join(missing),
            "pyrovm lab",
            f"apt install {packages}",
        )
