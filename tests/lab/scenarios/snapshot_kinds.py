"""Snapshots of guests with memory and devices of other kinds: huge pages, vhost."""

import json
import os
import subprocess
import sys
import time

from pyrovm import ApiError, MicroVMError, Vsock
from tests.lab.guests import Guest, RunGuest, asset

HOST, PEER = "172.20.0.1", "172.20.0.2"
PYROVM = [sys.executable, "-m", "pyrovm.cli.main"]
BEGAN = time.monotonic()
report = {}


def step(words):
    """Say on standard error how far we are: a scenario that fails shows it."""
    print(f"{time.monotonic() - BEGAN:.1f} {words}", file=sys.stderr, flush=True)


def until(condition, seconds=60):
    """The first true value of ``condition()``, or its last."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return value


def huge_kib(pid, field):
    """How much of a process's memory is in huge pages of a kind."""
    with open(f"/proc/{pid}/smaps") as smaps:
        return sum(int(line.split()[1]) for line in smaps if line.startswith(f"{field}:"))


def remembers(vm):
    return vm.run(
        "cat /tmp/word; dmesg >/dev/null; md5sum -c /tmp/sums >/dev/null && echo unharmed"
    )


def connected(vm):
    """A stream to the guest's vsock port; None while nobody listens there."""
    try:
        return vm.connect_vsock(5000, timeout=30)
    except MicroVMError:
        return None


def prepare(vm):
    vm.run("echo here >/tmp/word; dd if=/dev/urandom of=/tmp/data bs=1M count=8 2>/dev/null")
    vm.run("md5sum /tmp/data >/tmp/sums")


# ---------------------------------------------------------------- reserved huge pages
step("reserved huge pages")
with open("/proc/sys/vm/nr_hugepages", "w") as file:
    file.write("96")
with Guest(memory=160, huge_pages="2M") as vm:
    vm.boot()
    prepare(vm)
    reserved = vm.snapshot("/tmp/reserved")
try:
    Guest.restore(reserved)
except ApiError as error:
    report["from a file"] = error.fault
step("as ordinary pages")
with Guest.restore(reserved, huge_pages="None") as vm:
    report["as ordinary pages"] = remembers(vm)
    report["ordinary"] = huge_kib(vm.pid, "Private_Hugetlb") == 0
step("by a handler")
with subprocess.Popen([*PYROVM, "snapshot", "serve", reserved.memory, "/tmp/uffd"]) as handler:
    until(lambda: os.path.exists("/tmp/uffd"))
    with Guest.restore(reserved, page_server="/tmp/uffd") as vm:
        report["by a handler"] = remembers(vm)
        report["huge"] = huge_kib(vm.pid, "Private_Hugetlb") >= 16 << 10
        report["complaints of the served"] = vm.complaints()
    handler.terminate()
with open("/proc/sys/vm/nr_hugepages", "w") as file:
    file.write("0")

# --------------------------------------------------------------------- transparent ones
step("transparent huge pages")
with Guest(memory=160, huge_pages="Transparent") as vm:
    vm.boot()
    prepare(vm)
    transparent = vm.snapshot("/tmp/transparent")
with Guest.restore(transparent) as vm:
    report["transparent"] = remembers(vm)
    report["kept"] = vm.config()["machine-config"]["huge_pages"]

# ------------------------------------------------------------------------------- vhost
step("vhost")
for words in ("tuntap add tap0 mode tap", f"addr add {HOST}/24 dev tap0", "link set tap0 up"):
    subprocess.run(["ip", *words.split()], check=True)
guest = RunGuest(
    *("--net", "tap0", "--vsock", "42", "--vhost", "--api-sock", "/tmp/run.sock"),
    *("--memory", "160M", "--drive", f"{asset('tools.ext4')},ro"),
)
guest.run(f"ip link set eth0 up; ip addr add {PEER}/24 dev eth0; ping -c 1 -W 5 {HOST}")
guest.run("mkdir /t; mount -t ext4 -o ro /dev/vda /t; mount -t devtmpfs dev /t/dev")
prepare(guest)
create = [*PYROVM, "snapshot", "create", "/tmp/run.sock", "/tmp/vhost"]
report["saved"] = subprocess.run(create, stdout=subprocess.DEVNULL, check=False).returncode
report["source goes on"] = guest.attempt(f"ping -c 2 -W 10 {HOST} >/dev/null")[0]
report["status"] = guest.power_off()
step("without vhost")
with Guest.restore("/tmp/vhost", vsock=Vsock(path="/tmp/other.sock")) as vm:
    report["without vhost"] = remembers(vm)
    report["net"] = vm.attempt(f"ping -c 2 -W 10 {HOST} >/dev/null")[0]
    vm.run("chroot /t /usr/bin/socat -b 4096 VSOCK-LISTEN:5000,reuseaddr PIPE >/dev/null 2>&1 &")
    with until(lambda: connected(vm)) as connection:
        connection.settimeout(30)
        connection.sendall(b"hello")
        report["vsock"] = connection.recv(16).decode()
    report["complaints"] = vm.complaints()
json.dump(report, sys.stdout)
