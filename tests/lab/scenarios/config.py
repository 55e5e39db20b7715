"""The ways to configure a microVM, and what it says of itself."""

import json
import os
import subprocess
import sys

from pyrovm import Balloon, Drive, MemoryHotplug, Network, Pmem, Vsock
from pyrovm.sdk._process import vmm_command
from tests.lab.guests import CMDLINE, READY, Guest, asset

MMDS = "169.254.169.254"
report = {}

subprocess.run(["ip", "tuntap", "add", "tap0", "mode", "tap"], check=True)
for name in ("extra", "pmem"):
    with open(f"/tmp/{name}", "wb") as file:
        file.truncate(2 << 20)

# ------------------------------------------------------- everything at once, by the API
everything = {
    "cpus": 2,
    "smt": True,
    "drives": [
        Drive(asset("disk.ext4"), read_only=True, id="one"),
        Drive(
            "/tmp/extra",
            id="two",
            cache="Writeback",
            engine="Async",
            rate_limiter={"ops": {"size": 1000, "refill_time": 100, "one_time_burst": 5}},
        ),
    ],
    "networks": [
        Network(
            "tap0",
            mac="06:00:00:00:00:01",
            mtu=1400,
            tx_rate_limiter={"bandwidth": {"size": 1 << 20, "refill_time": 100}},
        )
    ],
    "pmem": [Pmem("/tmp/pmem")],
    "vsock": Vsock(cid=7, path="/tmp/v.sock"),
    "balloon": Balloon(amount_mib=8, stats_interval_s=2, free_page_hinting=True),
    "hotplug": MemoryHotplug(total_mib=256, block_mib=4),
    "entropy": True,
    "metadata": {"word": "from the API"},
}
with Guest(vmm=[*vmm_command(), "--boot-timer"], **everything) as guest:
    guest.boot()
    guest.run("devmem 0xc0000000 8 123")
    (line,) = [line for line in guest.log.splitlines() if "Guest-boot-time" in line]
    report["boot timer"] = line.partition("] ")[2]
    report["cmdline"] = guest.run("cat /proc/cmdline")
    report["topology"] = guest.run(
        "cat /sys/devices/system/cpu/cpu1/topology/thread_siblings_list; nproc"
    )
    report["drivers"] = guest.run(
        "for d in /sys/bus/virtio/devices/*; do basename $(readlink $d/driver); done"
    ).split()
    report["config"] = guest.config()
    metrics = guest.metrics()
    report["metrics"] = {
        key: sorted(value) if isinstance(value, dict) else type(value).__name__
        for key, value in metrics.items()
    }
    report["complaints"] = guest.complaints()
    report["status"] = guest.power_off()
os.unlink("/tmp/v.sock")

# ----------------------------------------------------- the same from what it said of itself
with open("/tmp/config.json", "w") as file:
    json.dump(report["config"], file)
with open("/tmp/metadata.json", "w") as file:
    json.dump({"word": "from a file"}, file)
from_file = ["--config-file", "/tmp/config.json", "--metadata", "/tmp/metadata.json"]
with Guest(vmm=[*vmm_command(), *from_file]) as guest:
    guest.launch()
    guest.console.wait_for(READY + "\n", 120)
    report["config again"] = guest.config()
    report["cmdline again"] = guest.run("cat /proc/cmdline")
    report["state"] = guest.info()["state"]
    report["mmds"] = guest.request("GET", "/mmds")
    guest.run(
        f"ip link set eth0 up; ip addr add 10.0.0.2/24 dev eth0; ip route add {MMDS} dev eth0"
    )
    token = guest.run(
        "printf 'PUT /latest/api/token HTTP/1.0\\r\\nX-metadata-token-ttl-seconds: 60\\r\\n\\r\\n' "
        f"| nc -w 1 {MMDS} 80 | tail -n 1"
    )
    report["word"] = guest.run(
        f"wget -q -O - --header 'X-metadata-token: {token}' http://{MMDS}/word"
    )
    report["status again"] = guest.power_off()

# ----------------------------------------------- without an API, without ACPI in the guest
os.unlink("/tmp/v.sock")
boot = {**report["config"]["boot-source"], "boot_args": f"{CMDLINE} acpi=off"}
with open("/tmp/config.json", "w") as file:
    changes = {"boot-source": boot, "mmds-config": None, "vsock": None}
    json.dump({**report["config"], **changes}, file)
arguments = ["--no-api", "--config-file", "/tmp/config.json", "--log-path", "/tmp/log"]
with subprocess.Popen(
    [*vmm_command(), *arguments, "--api-sock", "/tmp/api.sock"],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    bufsize=0,
) as process:
    seen = b""
    while READY.encode() not in seen:
        seen += process.stdout.read(4096)
    process.stdin.write(b"nproc; ls /sys/bus/virtio/devices | wc -l; ls /sys/firmware; reboot -f\n")
    rest = process.stdout.read()
    report["no api"] = rest.partition(b"[")[0].decode().split()
    report["no api status"] = process.wait(60)
report["no api socket"] = os.path.exists("/tmp/api.sock")
with open("/tmp/log") as log:
    report["no api log"] = [
        line.partition("] ")[2].strip() for line in log if "unknown port" not in line
    ]
json.dump(report, sys.stdout)
