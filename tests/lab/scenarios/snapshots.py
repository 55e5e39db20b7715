"""A Linux guest with every kind of device is saved, killed, and goes on elsewhere."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

from pyrovm import ApiError, Balloon, Drive, MemoryHotplug, MicroVMError, Network, Pmem, Vsock
from pyrovm.snapshot import state
from tests.lab.guests import Guest, asset

HOST, PEER = "172.20.0.1", "172.20.0.2"
SOCAT = "chroot /t /usr/bin/socat"
MIB = 1 << 20
BEGAN = time.monotonic()
report = {}


def step(words):
    """Say on standard error how far we are: a scenario that fails shows it."""
    print(f"{time.monotonic() - BEGAN:.1f} {words}", file=sys.stderr, flush=True)


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def tap(name):
    """A tap on the host's side of the guest's network; there is one at a time."""
    ip("tuntap", "add", name, "mode", "tap")
    ip("link", "set", name, "address", "06:00:ac:14:00:01")  # which the guest remembers
    ip("addr", "add", f"{HOST}/24", "dev", name)
    ip("link", "set", name, "up")


def until(condition, seconds=60):
    """The first true value of ``condition()``, or its last."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return value


def kill(vm):
    os.kill(vm.pid, signal.SIGKILL)
    vm.wait(30)
    vm.close()


def allocated_mib(path):
    return os.stat(path).st_blocks * 512 // MIB


def echoed(vm, text):
    """``text`` to the guest's vsock port and back."""

    def connect():
        try:
            return vm.connect_vsock(5000)
        except MicroVMError:
            return None

    connection = until(connect)
    with connection:
        connection.settimeout(60)
        connection.sendall(text)
        return connection.recv(64).decode()


def in_guest(vm, name):
    """A line of the guest's /proc/meminfo, in MiB."""
    return int(vm.run(f"grep ^{name}: /proc/meminfo").split()[1]) // 1024


def devices(vm, balloon_mib=16):
    """What works, by device."""
    found = {}
    step("net")
    found["net"] = vm.attempt(f"ping -c 2 -W 10 {HOST} >/dev/null")[0]
    vm.run("echo again >/w/again; sync; echo 3 >/proc/sys/vm/drop_caches")
    found["disk"] = vm.run("cat /w/before /w/again; cat /t/etc/hello 2>/dev/null; true")
    found["pmem"] = vm.run("cat /p/hello")
    step("vsock")
    found["vsock"] = echoed(vm, b"anybody?")
    found["rng"] = vm.run("head -c 32 /dev/hwrng | wc -c")
    found["memory"] = vm.run("md5sum -c /dev/shm/sums >/dev/null && echo unharmed")
    step("balloon")
    total = in_guest(vm, "MemTotal")
    vm.set_balloon(balloon_mib)
    found["balloon"] = until(lambda: in_guest(vm, "MemTotal") <= total - balloon_mib) is True
    vm.set_balloon(0)
    until(lambda: in_guest(vm, "MemTotal") == total)
    step("counts")
    found["counts on"] = vm.run("a=$(cat /tmp/n); sleep 1; [ $(cat /tmp/n) -gt $a ]; echo $?")
    return found


def clock_is(vm, seconds_behind):
    """Whether the guest's clock is so far behind the host's, give or take two seconds."""
    before = time.time()
    there = float(vm.run("date +%s"))
    return before - 2 <= there + seconds_behind <= time.time() + 2


# ------------------------------------------------------------------ a guest with everything
step("boot")
writable = shutil.copy(asset("disk.ext4"), "/tmp/writable.ext4")
pmem_file = shutil.copy(asset("disk.ext4"), "/tmp/pmem.ext4")
tap("tap0")
options = {
    "cpus": 2,
    "memory": 256,
    "entropy": True,
    "track_dirty_pages": True,
    "drives": [Drive(asset("tools.ext4"), read_only=True), Drive(writable)],
    "networks": [Network("tap0", mac="06:00:ac:14:00:02", id="eth0")],
    "vsock": Vsock(cid=42, path="/tmp/first.sock"),
    "balloon": Balloon(deflate_on_oom=False, stats_interval_s=1),
    "hotplug": MemoryHotplug(total_mib=256),
    "pmem": [Pmem(pmem_file)],
    "metadata": {"owner": "first"},
}
vm = Guest(**options)
vm.boot()
vm.run("mkdir /t /w /p; mount -t ext4 -o ro /dev/vda /t; mount -t devtmpfs dev /t/dev")
vm.run("mount -t ext4 /dev/vdb /w; mount -t ext4 /dev/pmem0 /p; echo was here >/w/before; sync")
vm.run(f"ip addr add {PEER}/24 dev eth0; ip link set eth0 up; ip route add 169.254.0.0/16 dev eth0")
vm.run(f"{SOCAT} -b 4096 VSOCK-LISTEN:5000,fork,reuseaddr PIPE >/dev/null 2>&1 &")
vm.run("echo online_movable >/sys/devices/system/memory/auto_online_blocks")
at_first = in_guest(vm, "MemTotal")
vm.set_hotplugged_memory(128)
report["plugged"] = until(lambda: in_guest(vm, "MemTotal") - at_first >= 120) is True
vm.run("mkdir -p /dev/shm; mount -t tmpfs -o size=90% none /dev/shm; cd /dev/shm")
vm.run("dd if=/dev/urandom of=/dev/shm/data bs=1M count=24 2>/dev/null")
vm.run("md5sum /dev/shm/data >/dev/shm/sums; cd /")
vm.run("(n=0; while :; do n=$((n+1)); echo $n >/tmp/new; mv /tmp/new /tmp/n; sleep 0.1; done) &")
report["before"] = devices(vm)

# -------------------------------------------------------------------- a chain of snapshots
step("base")
base = vm.snapshot("/tmp/base")
vm.run("echo after the first >/dev/shm/step; dd if=/dev/urandom of=/dev/shm/more bs=1M count=4")
vm.run("md5sum /dev/shm/data /dev/shm/more >/dev/shm/sums")
report["source goes on"] = [vm.run("cat /dev/shm/step"), echoed(vm, b"source")]
connection = vm.connect_vsock(5000)
connection.settimeout(60)
vm.pause()
diff = vm.snapshot("/tmp/diff", diff=True)
report["diff is smaller"] = allocated_mib(diff.memory) * 2 < allocated_mib(base.memory)
report["latencies"] = [
    vm.metrics()["latencies_us"][f"{prefix}{kind}_create_snapshot"] > 0
    for prefix in ("", "vmm_")
    for kind in ("diff",)
]
kill(vm)
report["connection of the source"] = connection.recv(1) == b""
connection.close()
rebase = [sys.executable, "-m", "pyrovm.cli.main", "snapshot", "rebase", base.memory, diff.memory]
report["rebase"] = subprocess.run(rebase, stdout=subprocess.DEVNULL, check=False).returncode
ip("link", "del", "tap0")
tap("tap1")

# ------------------------------------------------------------------- elsewhere, later
step("restore")
elsewhere = {"memory": base.memory, "taps": {"eth0": "tap1"}}
time.sleep(2)
saved_at = state.read(diff.state).created_ns / 1e9
with Guest.restore(
    diff.state,
    **elsewhere,
    vsock=Vsock(path="/tmp/second.sock"),
    metadata={"owner": "second"},
    track_dirty_pages=True,
) as vm:
    report["clock without help"] = clock_is(vm, seconds_behind=time.time() - saved_at)
    report["step"] = vm.run("cat /dev/shm/step")
    report["after"] = devices(vm)
    step("mmds")
    report["mmds"] = vm.run(
        "T=$(printf 'PUT /latest/api/token HTTP/1.1\\r\\nHost: m\\r\\n"
        "X-metadata-token-ttl-seconds: 60\\r\\n\\r\\n' | nc -w 2 169.254.169.254 80 | tail -n 1); "
        'printf "GET /owner HTTP/1.1\\r\\nHost: m\\r\\nX-metadata-token: $T\\r\\n\\r\\n" | '
        "nc -w 2 169.254.169.254 80 | tail -n 1"
    )
    report["tap"] = vm.config()["network-interfaces"][0]["host_dev_name"]
    step("hotplug")
    report["hotplug kept"] = vm.request("GET", "/hotplug/memory")["plugged_size_mib"]
    vm.set_hotplugged_memory(256)
    report["hotplug grows"] = until(lambda: in_guest(vm, "MemTotal") - at_first >= 240) is True
    vm.set_hotplugged_memory(0)
    report["hotplug shrinks"] = until(
        lambda: vm.request("GET", "/hotplug/memory")["plugged_size_mib"] == 0
    )
    report["complaints"] = vm.complaints()
    step("complaints")
    report["vmgenid"] = vm.run("dmesg | grep -c 'crng reseeded due to virtual machine fork'; true")
    third = vm.snapshot("/tmp/third", diff=True)
    report["reset"] = vm.power_off()
report["restored diff is small"] = allocated_mib(third.memory) < allocated_mib(base.memory)

# ------------------------------------------------------------------ pages by a handler
step("serve")
serve = [sys.executable, "-m", "pyrovm.cli.main", "snapshot", "serve", base.memory, "/tmp/uffd"]
with subprocess.Popen(serve, stdout=subprocess.DEVNULL) as handler:
    until(lambda: os.path.exists("/tmp/uffd"))
    with Guest.restore(
        diff.state,
        page_server="/tmp/uffd",
        taps=elsewhere["taps"],
        vsock=Vsock(path="/tmp/third.sock"),
        clock_realtime=True,
    ) as vm:
        report["clock with help"] = clock_is(vm, seconds_behind=0)
        report["served"] = devices(vm, balloon_mib=4)
        report["complaints of the served"] = vm.complaints()
        step("kill the handler")
        handler.kill()
        vm.console.write("md5sum -c /dev/shm/sums\n")  # whatever is not there yet
        report["without a handler"] = vm.wait(60) != 0
        report["says why"] = "page-fault handler" in vm.log

# --------------------------------------------------------------------- two of a kind
step("clones")
seeds = []
for number in range(2):
    with Guest.restore(diff.state, **elsewhere, vsock=Vsock(path=f"/tmp/clone{number}.sock")) as vm:
        seeds.append(vm.run("head -c 16 /dev/urandom | md5sum"))
report["clones draw other numbers"] = seeds[0] != seeds[1]

# ---------------------------------------------------------------------- what is missing
step("missing")
os.unlink(pmem_file)
try:
    Guest.restore(diff.state, **elsewhere, vsock=Vsock(path="/tmp/last.sock"))
except ApiError as error:
    report["without its file"] = error.fault
json.dump(report, sys.stdout)
