"""What the kernel knows of the process that asks for a VM, and what of it a child must share.

A forked child is in the launcher's namespaces, with the launcher's rights.  Where the caller has
others, it is refused and starts the VM itself.  What a process may change of itself (limits, umask,
priority), the child takes over.
"""

from __future__ import annotations

import os

from pyrovm.errors import HostError, os_error

# /proc/PID/status: line, in words.  A process of the same user may have other rights.
_RIGHTS = {
    b"Uid": "user",
    b"Gid": "group",
    b"Groups": "supplementary groups",
    b"CapEff": "capabilities",
    b"CapBnd": "capability bounding set",
    b"NoNewPrivs": "no_new_privs",
    b"Seccomp": "seccomp mode",
}
_NAMESPACES = ("net", "mnt", "pid_for_children", "ipc", "uts", "user", "cgroup", "time")


class Caller:
    """Facts about a process, as text; those of ``shared`` by their names in words."""

    def __init__(self, pid: int, *, cgroup: bool = True) -> None:
        """Look at it, or at ourselves (pid 0).

        Raises:
            HostError: it has ended, or may not be looked at.
        """
        at = f"/proc/{pid or 'self'}"
        self.pid = pid
        self.shared: dict[str, object] = {}
        try:
            status = _fields(_read(f"{at}/status"))
            self.shared = {name: status.get(line) for line, name in _RIGHTS.items()}
            root = os.stat(f"{at}/root")
            self.shared["root folder"] = root.st_dev, root.st_ino
            for name in _NAMESPACES:
                self.shared[f"{name} namespace"] = _link(f"{at}/ns/{name}")
            if cgroup:
                self.shared["cgroup"] = _read(f"{at}/cgroup")
            self.limits = _read(f"{at}/limits")
            self.oom = _read(f"{at}/oom_score_adj").strip()
            self.nice = int(_read(f"{at}/stat").rpartition(b")")[2].split()[16])
        except OSError as error:
            raise HostError(f"process {pid} cannot be looked at: {os_error(error)}") from None
        self.umask = int(status.get(b"Umask", b"022"), 8)
        self.cpus = status.get(b"Cpus_allowed", b"")

    def difference(self, other: Caller) -> str | None:
        """In what ``other`` is elsewhere than we are; None where a child of ours would do."""
        for name, value in self.shared.items():
            if other.shared.get(name) != value:
                return name
        return None

    def changes(self, own: Caller) -> list[tuple[str, str]]:
        """What a child of ``own`` has to do to be as this process is: fields of its job."""
        found = [("umask", str(self.umask))]
        if self.limits != own.limits:
            found += self._limits()
        if self.cpus != own.cpus:
            found += [("cpu", str(cpu)) for cpu in sorted(os.sched_getaffinity(self.pid))]
        if self.nice != own.nice:
            found.append(("nice", str(self.nice)))
        if self.oom != own.oom:
            found.append(("oom", self.oom.decode()))
        return found

    def _limits(self) -> list[tuple[str, str]]:
        import resource

        found = []
        for number in range(resource.RLIMIT_RTPRIO + 2):  # the last has no name in Python 3.11
            ours = resource.prlimit(0, number)
            theirs = resource.prlimit(self.pid, number)
            if ours != theirs:
                found.append(("limit", f"{number} {theirs[0]} {theirs[1]}"))
        return found


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 16384)
    finally:
        os.close(fd)


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:  # a kernel without this kind
        return ""


def _fields(text: bytes) -> dict[bytes, bytes]:
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(b":")
        found[name] = value.strip()
    return found
