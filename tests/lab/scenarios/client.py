"""Somebody else's client of Firecracker, pyrecracker, with ``pyrovm-firecracker`` as the VMM."""

import json
import os
import subprocess
import sys
import time

from pyrecracker.vm import VMError, VMManager

from tests.lab.guests import asset

SOCKET, LOG = "/tmp/firecracker.sock", "/tmp/logs/firecracker.log"
CMDLINE = "console=ttyS0 reboot=k panic=-1 quiet i8042.noaux i8042.dumbkbd"
report = {}


def program(name, text):
    with open(f"/tmp/bin/{name}", "w") as file:
        file.write(f'#!/bin/sh\nexec {text} "$@"\n')
    os.chmod(file.name, 0o755)


def log():
    with open(LOG) as file:
        return file.read()


def until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return bool(condition())


# The client calls both by name.  Everything in the lab is root, so sudo has nothing to do.
os.mkdir("/tmp/bin")
program("sudo", "")
program(
    "firecracker", f"{sys.executable} -c 'import pyrovm.cli.firecracker as f; f.sys.exit(f.main())'"
)
os.environ["PATH"] = f"/tmp/bin:{os.environ['PATH']}"
os.environ["PYTHONPATH"] = "/job/tree/src"

vm = VMManager(SOCKET, asset("vmlinux"), LOG)
report["listens"] = until(lambda: os.path.exists(SOCKET))
vm.initrd_path = asset("initramfs")
vm.boot_args = CMDLINE
vm.vcpu_count, vm.mem_size_mib = 2, 192
vm.path_on_host, vm.is_read_only = asset("disk.ext4"), True
vm.host_ip, vm.guest_ip = "172.20.0.1", "172.20.0.2"
vm.guest_mac = "06:00:ac:14:00:02"
vm.configure()
vm.start()
report["boots"] = until(lambda: "tick 3" in log())
report["answers"] = subprocess.call(
    ["ping", "-c", "1", "-W", "10", vm.guest_ip], stdout=subprocess.DEVNULL
)
report["said"] = [line for line in log().splitlines() if line.startswith("guest: ")]
try:
    vm.start()
except VMError as error:
    report["refusal"] = str(error).partition(" for url")[0]

vm.pause()
before = log().count("tick")
time.sleep(2)
report["ticks while paused"] = log().count("tick") - before
vm.resume()
report["goes on"] = until(lambda: log().count("tick") > before)

vm.host_env_cleanup_pause = 6  # s; then the client ends what still runs, by force
vm.stop()
report["end"] = log().splitlines()[-1].partition("] ")[2]
report["left behind"] = [os.path.exists(SOCKET), os.path.exists("/sys/class/net/tap0")]
json.dump(report, sys.stdout)
