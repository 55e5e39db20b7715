"""Memory that comes and goes: balloon, hotplug, huge pages, persistent memory, dirty pages."""

import json
import shutil
import sys
import time

from pyrovm import ApiError, Balloon, MemoryHotplug, Pmem
from tests.lab.guests import Guest, asset

KIB = 1024
report = {}


def until(condition, seconds=60):
    """The first true value of ``condition()``, or its last."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return value


def refused(call):
    try:
        call()
    except ApiError as error:
        return error.fault
    return "accepted"


def rss_mib():
    with open(f"/proc/{guest.pid}/status") as file:
        (line,) = [line for line in file if line.startswith("VmRSS:")]
    return int(line.split()[1]) // KIB


def huge_mib():
    """How much of the VMM's memory is in transparent huge pages."""
    with open(f"/proc/{guest.pid}/smaps") as smaps:
        return sum(int(line.split()[1]) for line in smaps if "AnonHugePages:" in line) // KIB


def in_guest(name):
    """A line of the guest's /proc/meminfo, in MiB."""
    return int(guest.run(f"grep ^{name}: /proc/meminfo").split()[1]) // KIB


pmem_file = shutil.copy(asset("disk.ext4"), "/tmp/pmem.ext4")
readonly_file = shutil.copy(asset("disk.ext4"), "/tmp/readonly.ext4")
options = {
    "memory": 256,
    "huge_pages": "Transparent",
    "entropy": True,
    "balloon": Balloon(deflate_on_oom=False, stats_interval_s=1, free_page_reporting=True),
    "hotplug": MemoryHotplug(total_mib=256),
    "pmem": [Pmem(pmem_file), Pmem(readonly_file, read_only=True)],
}

with Guest(**options) as guest:
    guest.launch()
    guest.configure()
    report["balloon before start"] = refused(lambda: guest.set_balloon(1))
    guest.request("PUT", "/actions", {"action_type": "InstanceStart"})
    guest.console.wait_for("ready")

    # entropy
    report["rng"] = guest.run("cat /sys/class/misc/hw_random/rng_current").strip()
    report["random bytes"] = guest.run("head -c 64 /dev/hwrng | wc -c")
    report["entropy bytes"] = guest.metrics()["entropy"]["entropy_bytes"] >= 64

    # balloon: pages leave the guest and the host's memory, and come back
    total = in_guest("MemTotal")
    guest.run("mkdir /big; mount -t tmpfs none /big")
    guest.run("dd if=/dev/zero of=/big/file bs=1M count=90 2>/dev/null")
    report["huge pages"] = huge_mib() >= 32
    guest.run("rm /big/file")
    before = rss_mib()
    guest.set_balloon(100)
    report["inflated"] = until(lambda: in_guest("MemTotal") <= total - 100)
    report["given back"] = before - rss_mib() >= 60
    report["statistics"] = sorted(guest.balloon_statistics())
    report["statistics fit"] = until(  # they are a second old
        lambda: abs((guest.balloon_statistics()["total_memory"] >> 20) - (total - 100)) <= 2
    )
    guest.set_balloon(0)
    report["deflated"] = until(lambda: in_guest("MemTotal") == total)
    report["refusals"] = [
        refused(lambda: guest.set_balloon(257)),
        refused(lambda: guest.set_balloon(1 << 31)),
        refused(
            lambda: guest.request("PATCH", "/balloon/statistics", {"stats_polling_interval_s": 0})
        ),
    ]
    metrics = guest.metrics()["balloon"]
    report["balloon metrics"] = [metrics["inflate_count"] > 0, metrics["deflate_count"] > 0]
    report["free pages reported"] = bool(
        metrics["free_page_report_count"]
        or until(lambda: guest.metrics()["balloon"]["free_page_report_count"])
    )

    # hotplug: up, used, down again
    report["hotplug at first"] = guest.request("GET", "/hotplug/memory")
    guest.run("echo online_movable >/sys/devices/system/memory/auto_online_blocks")
    guest.set_hotplugged_memory(256)
    report["plugged"] = until(lambda: in_guest("MemTotal") - total >= 240)
    guest.run("dd if=/dev/zero of=/big/file bs=1M count=64 2>/dev/null; rm /big/file")
    report["hotplug full"] = guest.request("GET", "/hotplug/memory")["plugged_size_mib"]
    guest.set_hotplugged_memory(0)
    report["unplugged"] = until(
        lambda: guest.request("GET", "/hotplug/memory")["plugged_size_mib"] == 0
    )
    report["after"] = in_guest("MemTotal") - total
    report["odd size"] = refused(lambda: guest.set_hotplugged_memory(3))
    report["too much"] = refused(lambda: guest.set_hotplugged_memory(512))

    # pmem: what the guest writes is in the file, unless it is read-only
    guest.run("mkdir /p; mount -t ext4 /dev/pmem0 /p")
    report["pmem read"] = guest.run("cat /p/hello")
    guest.run("echo 'from the guest, past the page cache' >/p/written; sync; umount /p")
    guest.run("mount -t ext4 -o ro,noload /dev/pmem1 /p")
    report["ro read"] = guest.run("cat /p/hello; umount /p")
    guest.run("dd if=/dev/zero of=/dev/pmem1 bs=4096 count=1 2>/dev/null; true")
    report["pmem flushes"] = guest.metrics()["pmem_pmem0"]["queue_event_count"] > 0

    report["complaints"] = guest.complaints()
    report["status"] = guest.power_off()

with open(pmem_file, "rb") as file:
    report["in the file"] = b"from the guest, past the page cache" in file.read()
with open(readonly_file, "rb") as file, open(asset("disk.ext4"), "rb") as original:
    report["read-only file unchanged"] = file.read() == original.read()

balloon = Balloon(free_page_hinting=True)
with Guest(track_dirty_pages=True, balloon=balloon, memory=128) as guest:
    guest.boot()
    guest.set_balloon(16)
    report["balloon while dirty pages are tracked"] = until(
        lambda: guest.request("GET", "/balloon")["amount_mib"]
    )
    report["no statistics"] = refused(guest.balloon_statistics)
    report["no hints yet"] = guest.request("GET", "/balloon/hinting/status")
    guest.request("PATCH", "/balloon/hinting/start", {"acknowledge_on_stop": True})
    report["hints given"] = until(
        lambda: guest.request("GET", "/balloon/hinting/status") == {"host_cmd": 1, "guest_cmd": 0}
    )
    metrics = guest.metrics()["balloon"]
    report["hint metrics"] = [metrics["free_page_hint_count"] > 0, metrics["free_page_hint_fails"]]
    report["machine config"] = guest.config()["machine-config"]
    report["status 2"] = guest.power_off()

# reserved huge pages back all of a guest, and without enough of them it is not started
with open("/proc/sys/vm/nr_hugepages", "w") as file:
    file.write("80")
with Guest(huge_pages="2M", memory=128) as guest:
    guest.boot()
    with open(f"/proc/{guest.pid}/smaps") as smaps:
        pages = sum(int(line.split()[1]) for line in smaps if line.startswith("Private_Hugetlb:"))
    report["reserved pages"] = pages > 16 * KIB
    report["status 3"] = guest.power_off()
with Guest(huge_pages="2M", memory=256) as guest:
    report["too few"] = refused(guest.start)
json.dump(report, sys.stdout)
