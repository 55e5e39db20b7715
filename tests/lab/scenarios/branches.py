"""A busy Linux guest is branched: clones in networks of their own, a snapshot behind its back."""

import json
import shutil
import subprocess
import sys
import time

from pyrovm import Balloon, Clone, Drive, MicroVMError, Network, Vsock
from tests.lab.guests import Guest, asset

HOST, PEER = "172.20.0.1", "172.20.0.2"
SOCAT = "chroot /t /usr/bin/socat"
CLONES = 2
BEGAN = time.monotonic()
report = {}


def step(words):
    """Say on standard error how far we are: a scenario that fails shows it."""
    print(f"{time.monotonic() - BEGAN:.1f} {words}", file=sys.stderr, flush=True)


def network(*prefix):
    """A tap on the host's side of the guest's network, here or in a namespace."""
    for words in (
        "tuntap add tap0 mode tap",
        f"addr add {HOST}/24 dev tap0",
        "link set tap0 up",
        "link set lo up",
    ):
        subprocess.run([*prefix, "ip", *words.split()], check=True)


def until(condition, seconds=60):
    """The first true value of ``condition()``, or its last."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return value


def echoed(vm, text):
    """``text`` to the guest's vsock port and back."""

    def connect():
        try:
            return vm.connect_vsock(5000)
        except MicroVMError:
            return None

    with until(connect) as connection:
        connection.settimeout(60)
        connection.sendall(text)
        return connection.recv(64).decode()


def unharmed(vm, number):
    """What is its own, and still as it was."""
    vm.run(f"echo {number} >/w/own; sync; echo 3 >/proc/sys/vm/drop_caches")
    found = {"disk": vm.run("cat /w/before /w/own | tr '\\n' ' '")}
    found["memory"] = vm.run("md5sum -c /dev/shm/sums >/dev/null && echo unharmed")
    return found


def works(vm, number):
    """What works, by device."""
    found = unharmed(vm, number)
    found["net"] = vm.attempt(f"ping -c 2 -W 10 {HOST} >/dev/null")[0]
    vm.run("dd if=/dev/urandom of=/w/junk bs=1M count=2 2>/dev/null; sync")
    found["own disk"] = vm.run("echo 3 >/proc/sys/vm/drop_caches; md5sum /w/junk | wc -l")
    found["vsock"] = echoed(vm, b"anybody?")
    found["counts on"] = vm.run("a=$(cat /tmp/n); sleep 1; [ $(cat /tmp/n) -gt $a ]; echo $?")
    found["clock"] = abs(ahead(vm) - ahead_at_first) < 4
    return found


def ahead(vm):
    """By how many seconds its clock is ahead of ours: an emulated one is not exact."""
    return float(vm.run("date +%s")) - time.time()


step("boot")
network()
for number in range(CLONES):
    subprocess.run(["ip", "netns", "add", f"clone{number}"], check=True)
    network("ip", "netns", "exec", f"clone{number}")
writable = shutil.copy(asset("disk.ext4"), "/tmp/writable.ext4")
vm = Guest(
    cpus=2,
    entropy=True,
    drives=[Drive(asset("tools.ext4"), read_only=True), Drive(writable, id="data")],
    networks=[Network("tap0", mac="06:00:ac:14:00:02", id="eth0")],
    vsock=Vsock(cid=42, path="/tmp/source.sock"),
    balloon=Balloon(deflate_on_oom=False),
)
vm.boot()
ahead_at_first = ahead(vm)
vm.run("mkdir /t /w; mount -t ext4 -o ro /dev/vda /t; mount -t devtmpfs dev /t/dev")
vm.run("mount -t ext4 /dev/vdb /w; echo was here >/w/before; sync")
vm.run(f"ip addr add {PEER}/24 dev eth0; ip link set eth0 up")
vm.run(f"{SOCAT} -b 4096 VSOCK-LISTEN:5000,fork,reuseaddr PIPE >/dev/null 2>&1 &")
vm.run("mkdir -p /dev/shm; mount -t tmpfs none /dev/shm")
vm.run("dd if=/dev/urandom of=/dev/shm/data bs=1M count=16 2>/dev/null")
vm.run("md5sum /dev/shm/data >/dev/shm/sums")
vm.run("(n=0; while :; do n=$((n+1)); echo $n >/tmp/new; mv /tmp/new /tmp/n; sleep 0.1; done) &")

# ------------------------------------------------------------------- what cannot be shared
try:
    vm.fork([Clone(netns="/run/netns/clone0")])
except MicroVMError as error:
    report["a writable drive"] = str(error)
try:
    vm.fork([Clone(drives={"data": writable})])
except MicroVMError as error:
    report["no tap"] = str(error)

# -------------------------------------------------------- a snapshot while the guest runs on
step("live snapshot")
connection = vm.connect_vsock(5000)
connection.settimeout(60)
files = {"snapshot_path": "/tmp/live", "mem_file_path": "/tmp/live.mem"}
report["pause_us"] = vm.request("PUT", "/branch", {"snapshot": files})["pause_us"]
vm.run("echo later >/dev/shm/later")
connection.sendall(b"still here")
report["connection of the source"] = connection.recv(64).decode()
report["live snapshot"] = until(
    lambda: [e for e in vm.request("GET", "/branch")["snapshots"] if e["state"] != "writing"]
)

# ------------------------------------------------------------- clones of a paused machine
step("fork")
vm.pause()
clones = vm.fork([Clone(netns=f"/run/netns/clone{number}") for number in range(CLONES)])
try:
    vm.resume()
except MicroVMError as error:
    report["resume of a base"] = str(error)
step("clones")
report["clone"] = works(clones[0], "clone")
report["other clone"] = unharmed(clones[1], "other")
report["random"] = len({clone.run("head -c 8 /dev/urandom | md5sum") for clone in clones})
report["vmgenid"] = clones[0].run("dmesg | grep -c 'crng reseeded due to virtual machine fork'; :")
report["complaints"] = clones[0].complaints()
report["ended"] = [clone.power_off() for clone in clones]
for clone in clones:
    clone.close()

# --------------------------------------------------------------- the source, as if nothing was
step("source")
vm.resume()
report["source"] = unharmed(vm, "source")
report["source is later"] = vm.run("cat /dev/shm/later")
connection.sendall(b"still here")
report["connection after all"] = connection.recv(64).decode()
report["complaints of the source"] = vm.complaints()
vm.close()

# ------------------------------------------------------------------- the snapshot was good
step("restore")
again = Guest.restore("/tmp/live", vsock=Vsock(path="/tmp/again.sock"))
with again:
    report["restored"] = unharmed(again, "restored")
    report["not later"] = again.attempt("cat /dev/shm/later >/dev/null 2>&1")[0]

print(json.dumps(report))
