"""A launcher of a test's own, in a folder that no other process of this user looks at."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from tests.fakes.vmm_process import Process

TIMEOUT = 60  # seconds; the machine may be busy

CODE = "from pyrovm.cli.{module} import main; raise SystemExit(main())"


def python(module):
    """How to start one of our programs by the module of its ``main``."""
    return [sys.executable, "-I", "-c", CODE.format(module=module)]


ENTRY = python("firecracker_entry")
PYROVM = python("main")


def wait_until(condition, what):
    """Wait for ``condition()``; what it gave."""
    until = time.monotonic() + TIMEOUT
    while not (found := condition()):
        assert time.monotonic() < until, f"not in {TIMEOUT} s: {what}"
        time.sleep(0.005)
    return found


class Launcher:
    """``environment`` is for those who shall find it; started by :meth:`run`."""

    def __init__(self):
        self.base = tempfile.mkdtemp(prefix="pvl-")
        self.folder = f"{self.base}/pyrovm"
        self.socket = f"{self.folder}/launcher.sock"
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": self.base}
        self.environment.pop("PYROVM_LAUNCHER", None)
        self.process = None

    def pyrovm(self, *words, **options):
        """Our program, until it ends."""
        return subprocess.run(
            [*PYROVM, *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
            **options,
        )

    def run(self, *options):
        """``pyrovm launcher run``, until it serves."""
        self.process = subprocess.Popen(
            [*PYROVM, "launcher", "run", *options],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

        def serves():
            assert self.process.poll() is None, self.process.communicate()
            return self.status()

        wait_until(serves, "the launcher serves")
        return self

    def status(self):
        """Its own account, None where none runs."""
        told = self.pyrovm("launcher", "status", "--json")
        report = json.loads(told.stdout)
        return report if report["running"] else None

    def wait_for_pool(self):
        """Wait until the pool is full; the pids of those who wait."""

        def full():
            pool = self.status()["pool"]
            return len(pool["waiting"]) == pool["size"] and pool["waiting"]

        return wait_until(full, "the pool is full")

    def kill(self):
        """As a crash would end it."""
        self.process.kill()
        self.process.communicate(timeout=TIMEOUT)

    def vmm(self, folder, *arguments, **options):
        """A VMM with its API open, by whatever starts it."""
        return Process(folder, *arguments, command=ENTRY, **{"env": self.environment, **options})

    def pids(self):
        """All processes that know of our folder, and have not ended."""
        found = []
        mark = f"XDG_RUNTIME_DIR={self.base}\0".encode()
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open(f"/proc/{name}/environ", "rb") as file:
                        if mark in file.read() + b"\0":
                            found.append(int(name))
                except OSError:  # it has ended, or is ending
                    continue
        return found

    def close(self):
        """End everything and remove the folder."""
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self.process is not None:
            self.process.communicate(timeout=TIMEOUT)
        shutil.rmtree(self.base)
