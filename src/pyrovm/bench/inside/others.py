"""The peers that are not in Debian, as processes: their programs come along as assets."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pyrovm.bench.inside.machines import Machine, Pyrovm, Qemu, take_assets

PROGRAMS = Path("/tmp")  # where take_assets puts them


class Firecracker(Pyrovm):
    """The original: the same API, config file and flags as ours."""

    name = "Firecracker"

    def program(self) -> list[str]:
        return [str(PROGRAMS / "firecracker")]


class CloudHypervisor(Machine):
    """Steered by its API (cloud-hypervisor.yaml), or started at once."""

    name = "Cloud Hypervisor"
    ends = False  # its guests' reset starts them again

    def command(self, waits: bool) -> list[str]:
        guest = self.guest
        program = str(PROGRAMS / "cloud-hypervisor")
        if waits:
            return [program, "--api-socket", f"path={self._socket}"]
        return [
            program,
            *("--kernel", guest.kernel, "--initramfs", guest.initrd, "--cmdline", guest.args),
            *("--cpus", "boot=1", "--memory", f"size={guest.memory_mib}M"),
            *("--console", "off", "--serial", "tty" if guest.serial else "off"),
        ]

    def make_ready(self) -> None:
        self._connection = self.connect()
        guest = self.guest
        config = {
            "payload": {
                "kernel": guest.kernel,
                "initramfs": guest.initrd,
                "cmdline": guest.args,
            },
            "cpus": {"boot_vcpus": 1, "max_vcpus": 1},
            "memory": {"size": guest.memory_mib << 20},
            "console": {"mode": "Off"},
            "serial": {"mode": "Tty" if guest.serial else "Off"},
        }
        self.put(self._connection, "/api/v1/vm.create", json.dumps(config).encode())
        answer = self._connection.recv(4096)
        if b" 204 " not in answer:
            raise self.failure(f"vm.create was refused: {answer!r}")
        self.settle()

    def begin(self) -> int:
        return self.put(self._connection, "/api/v1/vm.boot", b"")


class Kvmtool(Machine):
    """``lkvm run``: has nothing to steer it by, and starts at once."""

    name = "kvmtool"
    can_wait = False

    def command(self, waits: bool) -> list[str]:
        guest = self.guest
        words = [str(PROGRAMS / "lkvm"), "run", "--kernel", guest.bzimage or guest.kernel]
        words += ["--initrd", guest.initrd, "--params", guest.args]
        words += ["--cpus", "1", "--mem", str(guest.memory_mib), "--network", "mode=none"]
        return [*words, "--console", "serial" if guest.serial else "virtio"]


# What the host calls their programs.
KINDS: dict[str, type[Machine]] = {
    "qemu-system-x86_64": Qemu,
    "firecracker": Firecracker,
    "cloud-hypervisor": CloudHypervisor,
    "lkvm": Kvmtool,
}


def chosen(programs: list[str]) -> list[type[Machine]]:
    """Ours, and those of the peers whose programs are named."""
    for program in programs:
        if KINDS[program] is not Qemu:  # which the lab has
            (path,) = take_assets(program)
            os.chmod(path, 0o755)
    return [Pyrovm, *(KINDS[program] for program in programs)]
