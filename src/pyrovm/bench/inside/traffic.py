"""Have a guest move data by disk, network or vsock under both VMMs; what it measured itself.

    traffic.py PLAN    {"guests": [{"vmm", "name", "job", ...}, ...], "args": ..., "rounds": ...}

The guest's init runs ``load`` (load.c) with the words behind JOB= on its command line;
for streams ``load`` also is the other end, here.
"""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from pyrovm.bench.inside.machines import (
    Guest,
    Machine,
    Pyrovm,
    Qemu,
    answer,
    patiently,
    say,
    take_assets,
)

TAP, HOST_ADDRESS = "tap0", "10.0.0.1"
DISK = "/dev/ram0"
_RESULT = re.compile(rb"^RESULT (\S+) (\d+) (\d+)", re.M)  # name, amount, ns
KINDS: dict[str, type[Machine]] = {"pyrovm": Pyrovm, "qemu": Qemu}


def run(*argv: str) -> None:
    """Run a program that must succeed."""
    subprocess.run(argv, check=True)


def make_disk(mib: int) -> None:
    """A RAM disk with every page in place: reading from it takes no time but the CPU's."""
    run("modprobe", "brd", "rd_nr=1", f"rd_size={mib << 10}")
    with open(DISK, "r+b", buffering=0) as disk:
        for _ in range(mib):
            disk.write(b"\x5a" * (1 << 20))


def make_tap() -> None:
    """A tap with an address."""
    run("ip", "tuntap", "add", TAP, "mode", "tap", "vnet_hdr")
    run("ip", "address", "add", f"{HOST_ADDRESS}/24", "dev", TAP)
    run("ip", "link", "set", TAP, "up")


def transfer(load: str, each: dict[str, Any], guest: Guest) -> dict[str, float]:
    """One guest's life: amounts per second by name."""
    folder = Path(tempfile.mkdtemp())
    servers = [
        subprocess.Popen([load, "serve", *(word.replace("FOLDER", str(folder)) for word in words)])
        for words in each.get("servers", [])
    ]
    try:
        with KINDS[each["vmm"]](guest_at(guest, folder), folder, waits=False) as machine:
            machine.wait()
            said = machine.output.read_bytes().replace(b"\r", b"")
            found = {
                name.decode(): int(amount) * 1e9 / int(ns)
                for name, amount, ns in _RESULT.findall(said)
            }
            if not found:
                raise machine.failure("the guest measured nothing")
    finally:
        for server in servers:
            server.kill()
            server.wait()
    return found


def guest_at(guest: Guest, folder: Path) -> Guest:
    """The guest with its vsock's socket in ``folder``."""
    if guest.vsock == "unix":
        return dataclasses.replace(guest, vsock=str(folder / "vsock"))
    return guest


def main() -> None:
    plan = json.loads(sys.argv[1])
    kernel, initrd, load = take_assets("kernel", "initrd", "load")
    Path(load).chmod(0o755)
    if plan.get("disk_mib"):
        make_disk(plan["disk_mib"])
    if plan.get("tap"):
        make_tap()
    found: dict[str, dict[str, list[float]]] = {}
    warm = set()  # VMMs that have run, so that their programs are in the page cache
    for number in range(plan["rounds"] + 1):
        for each in plan["guests"]:
            if not number and each["vmm"] in warm:
                continue
            warm.add(each["vmm"])
            say(f"{each['name']}: " + (f"{number} of {plan['rounds']}" if number else "warming up"))
            args = f"{plan['args']} JOB={','.join(each['job'])}"
            guest = Guest(kernel, initrd, args, memory_mib=256, serial=True, **each["devices"])
            for name, rate in patiently(partial(transfer, load, each, guest)).items():
                if number:
                    found.setdefault(each["name"], {}).setdefault(name, []).append(rate)
    answer(found)


if __name__ == "__main__":
    main()
