"""What a soak watches, sampled while nothing is done: see proc(5)."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

from tests.soak import world as roles
from tests.soak.world import wait_until

CLONE_NEWNS, CLONE_NEWNET, MS_PRIVATE_ALL = 0x20000, 0x40000000, 0x44000
NR_UNSHARE, NR_MOUNT = 272, 165
LOGS = ("vmm.log", "metrics.json")  # these have a line for each request, as they should
SETTLE = 30  # seconds for processes that were killed to be gone


def live_apart():
    """Have mounts and interfaces of our own, so that nobody else's are counted; root only."""
    from pyrovm.host.libc import syscall

    if os.geteuid() == 0:
        syscall(NR_UNSHARE, CLONE_NEWNS | CLONE_NEWNET)
        os.system("mount --make-rprivate / && ip link set lo up")


def sample(world, worker):
    """All quantities by name, once everybody is at rest."""
    lasts = worker.lasting()
    wait_until(lambda: _is_at_rest(world), lambda: f"at rest: {world.processes()}", SETTLE)
    there = world.processes()
    found = {"processes": len(there)}
    watched = {
        "caller": worker.process.pid,
        "helper": lasts["helper"],
        "source": lasts["vm"],
        "launcher": _only(there, roles.LAUNCHER),
        "template": _only(there, roles.TEMPLATE),
    }
    for name, pid in watched.items():
        found |= {f"{what} of {name}": value for what, value in _of_process(pid).items()}
    found = {re.sub(r"^(\w+)_kib of (\w+)$", r"\1 of \2_kib", name): found[name] for name in found}
    found["KVM VMs"] = sum(_kvm_vms(pid) for pid in there)
    found["files"] = len(world.left_files())
    folders = (world.base, world.cache)
    found["files in all folders"] = sum(1 for folder in folders for _ in folder.rglob("*"))
    found["disk_kib"] = sum(_disk_kib(folder) for folder in folders)
    found["interfaces"] = len(Path("/proc/self/net/dev").read_text().splitlines()) - 2
    found["mounts"] = len(Path("/proc/self/mountinfo").read_text().splitlines())
    found["network namespaces"] = len({_link(pid, "ns/net") for pid in there})
    found["cgroups"] = _cgroups()
    return found


def _is_at_rest(world):
    there = Counter(world.processes().values())
    usual = {roles.WORKER: 1, roles.HELPER: 1, roles.TEMPLATE: 1, roles.BRANCH: 1}
    # The helper's spare and functions' template; the source and the launcher's pool.
    usual |= {roles.PROGRAM: 2, roles.LAUNCHER: 1, roles.VMM: 3}
    return there == usual


def _only(there, role):
    (pid,) = (pid for pid, is_a in there.items() if is_a == role)
    return pid


def _of_process(pid):
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    kib = {name: int(value) for name, value in re.findall(r"^(\w+): +(\d+) kB$", text, re.M)}
    return {
        "private_kib": kib["Private_Clean"] + kib["Private_Dirty"],
        "pss_kib": kib["Pss"],
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": len(os.listdir(f"/proc/{pid}/task")),
    }


def _kvm_vms(pid):
    fds = os.listdir(f"/proc/{pid}/fd")
    return sum(_link(pid, f"fd/{fd}") == "anon_inode:kvm-vm" for fd in fds)


def _link(pid, name):
    try:
        return os.readlink(f"/proc/{pid}/{name}")
    except FileNotFoundError:
        return ""


def _disk_kib(folder):
    found = 0
    for path in folder.rglob("*"):
        if path.name in LOGS:
            continue
        try:
            found += path.lstat().st_blocks
        except FileNotFoundError:
            continue
    return found // 2


def _cgroups():
    """Below ours, of version 2; none where there is no such hierarchy."""
    ours = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip()
    folder = Path("/sys/fs/cgroup", ours.lstrip("/"))
    return sum(1 for _ in folder.rglob("cgroup.procs")) if folder.is_dir() else 0
