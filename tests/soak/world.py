"""Folders of a soak's own, what is in them, and the processes that belong to it."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

from pyrovm.guest import cache

TIMEOUT = 60  # seconds; the machine may be busy

# What processes are, by their command lines and by who has forked them.
WORKER, HELPER, PROGRAM, TEMPLATE, BRANCH = "worker", "helper", "program", "template", "branch"
LAUNCHER, VMM, CLONE, HANDLER, STUB = "launcher", "vmm", "clone", "handler", "stub"


def wait_until(condition, what, timeout=TIMEOUT):
    """Wait for ``condition()``; what it gave."""
    until = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"not in {timeout} s: {what() if callable(what) else what}")
        time.sleep(0.01)
    return found


class World:
    """``environment`` is for workers: whatever they and theirs make is below ``base``, but for the
    images, which are in ``cache``."""

    def __init__(self):
        self.base = Path(tempfile.mkdtemp(prefix="pvsoak-"))
        self.tmp, self.runtime, self.files = (self.base / n for n in ("tmp", "run", "files"))
        for folder in (self.tmp, self.runtime, self.files):
            folder.mkdir(mode=0o700)
        self.cache = cache.folder("tests", "soak")
        self.environment = {
            **os.environ,
            "TMPDIR": str(self.tmp),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "PYROVM_CACHE": str(self.cache),
            "PYROVM_LAUNCHER": "on",
            "PYROVM_SOAK_FILES": str(self.files),
        }
        self._mark = f"XDG_RUNTIME_DIR={self.runtime}\0".encode()

    def processes(self):
        """The role of each living process of ours, by its pid."""
        found = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    folder = Path("/proc", name)
                    if self._mark not in (folder / "environ").read_bytes() + b"\0":
                        continue
                    words = (folder / "cmdline").read_bytes()
                    status = (folder / "stat").read_text().rpartition(")")[2].split()
                except OSError:  # it has ended, or is ending
                    continue
                if status[0] != "Z":
                    found[int(name)] = (int(status[1]), words, status[3] == name)
        return {pid: self._role(pid, found) for pid in found}

    def _role(self, pid, found):
        parent, words, is_leader = found[pid]
        above = found.get(parent)
        if b"tests.soak.worker" in words:
            return WORKER
        if b"programs.zygote" in words:
            if is_leader:  # of the session, which all that it forks are in
                return HELPER
            if above is not None and not above[2]:
                return BRANCH
            return TEMPLATE if any(up == pid for up, *_ in found.values()) else PROGRAM
        if b"firecracker_entry" in words:
            return STUB
        if b"snapshot\0serve" in words:
            return HANDLER
        if b"cli.launcher" in words:
            if self._has_lock(pid):
                return LAUNCHER
            return VMM if above is not None and self._has_lock(parent) else CLONE
        return words.replace(b"\0", b" ").decode(errors="replace")[:60] or "?"

    def _has_lock(self, pid):
        lock = str(self.runtime / "pyrovm" / "launcher.lock")
        try:
            return any(
                os.readlink(f"/proc/{pid}/fd/{fd}") == lock for fd in os.listdir(f"/proc/{pid}/fd")
            )
        except OSError:
            return False

    def left_files(self):
        """What is in the temporary and runtime folders and in our own, and scratch in the cache."""
        found = [*self.tmp.iterdir(), *self.files.glob(".*.pyrovm-part")]
        found += self.runtime.glob("pyrovm/*")
        for scratch in self.cache.glob("*/tmp-*"):
            with cache.unless_locked(scratch / cache.LOCK_NAME) as is_left:
                if is_left:
                    found.append(scratch)
        return sorted(str(path) for path in found)

    def close(self):
        """End every process and remove the folders."""
        while pids := self.processes():
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.01)
        shutil.rmtree(self.base)
