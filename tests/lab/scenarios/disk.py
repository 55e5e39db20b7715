"""Block devices as a Linux guest uses them; what it wrote is read back on the host."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

from pyrovm import ApiError, Drive
from tests.lab.guests import Guest, asset

MIB = 1 << 20
report = {}


def make_file(name, size_mib, fill=b"\0"):
    path = f"/tmp/{name}"
    with open(path, "wb") as file:
        file.write(fill * (size_mib * MIB // len(fill)))
    return path


def host_reads(image, path):
    """A file's contents in an ext4 image, through the host's own ext4."""
    subprocess.run(["modprobe", "loop"], check=True)
    os.makedirs("/tmp/mnt", exist_ok=True)
    subprocess.run(["mount", "-o", "loop,ro", image, "/tmp/mnt"], check=True)
    try:
        with open(f"/tmp/mnt/{path}") as file:
            return file.read()
    finally:
        subprocess.run(["umount", "/tmp/mnt"], check=True)


root = shutil.copy(asset("disk.ext4"), "/tmp/root.ext4")
readonly = make_file("readonly", 2, b"read me!")
fast = make_file("fast", 8)
first = make_file("first", 2, b"first...")
second = make_file("second", 4, b"second..")

drives = [
    Drive(root, id="root", cache="Writeback"),
    Drive(readonly, id="ro", read_only=True),
    Drive(fast, id="fast", engine="Async", cache="Writeback"),
    Drive(first, id="swap"),
]

with Guest(drives=drives) as guest:
    guest.boot()

    # ext4, written by the guest and read by the host
    guest.run("mkdir /m; mount -t ext4 /dev/vda /m")
    report["from host"] = guest.run("cat /m/hello")
    guest.run("mkdir /m/d; for i in 1 2 3; do echo line $i; done >/m/d/file; sync; umount /m")

    # read-only: the guest's kernel knows it, and the data can be read
    report["ro flag"] = guest.run("blockdev --getro /dev/vdb")
    report["ro data"] = guest.run("dd if=/dev/vdb bs=8 count=1 2>/dev/null")
    report["ro write"], _ = guest.attempt("dd if=/dev/zero of=/dev/vdb bs=512 count=1 2>&1")

    # io_uring: many small writes past the page cache, a number in each block; large ones
    guest.run("""awk 'BEGIN { for (i = 1; i <= 1000; i++) printf "%-4096d", i }' >/tmp/blocks""")
    guest.run("dd if=/tmp/blocks of=/dev/vdc bs=4096 seek=3 oflag=direct 2>/dev/null")
    report["direct"] = guest.run(
        "dd if=/dev/vdc bs=4096 skip=502 count=1 iflag=direct 2>/dev/null | tr -d ' '"
    )
    report["random sum"] = guest.run(
        "dd if=/dev/urandom of=/dev/vdc bs=64k seek=80 count=32 conv=fsync 2>/dev/null; "
        "echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vdc bs=64k skip=80 count=32 2>/dev/null "
        "| md5sum | cut -c1-32"
    )

    # another file behind a live drive: size, contents and serial number change
    report["swap before"] = guest.run("blockdev --getsz /dev/vdd; dd if=/dev/vdd bs=8 count=1 2>&-")
    id_before = guest.run("cat /sys/block/vdd/serial")
    guest.set_drive("swap", path=second)
    report["swap after"] = guest.run(
        "n=0; while [ $(blockdev --getsz /dev/vdd) = 4096 ] && [ $n -lt 50 ]; do "
        "n=$((n+1)); sleep 0.1; done; echo 3 >/proc/sys/vm/drop_caches; "
        "blockdev --getsz /dev/vdd; dd if=/dev/vdd bs=8 count=1 2>&-"
    )
    report["id changed"] = id_before != guest.run("cat /sys/block/vdd/serial")
    try:
        guest.set_drive("swap", path="/no/such/file")
    except ApiError as error:
        report["bad path"] = error.fault
    report["after bad path"] = guest.run("dd if=/dev/vdd bs=8 count=1 2>&-")

    # a rate limit slows a live drive down, and goes again
    read = "echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vdd of=/dev/null bs=64k count=16 2>&-"
    guest.metrics()
    guest.run(read)
    report["unlimited events"] = guest.metrics()["block_swap"]["rate_limiter_throttled_events"]
    guest.set_drive("swap", rate_limiter={"bandwidth": {"size": MIB // 8, "refill_time": 200}})
    guest.run(read)
    metrics = guest.metrics()
    report["limited events"] = metrics["block_swap"]["rate_limiter_throttled_events"]
    report["limited bytes"] = metrics["block_swap"]["read_bytes"]
    guest.set_drive("swap", rate_limiter={"bandwidth": {"size": 0, "refill_time": 0}})
    guest.run(read)
    report["again events"] = guest.metrics()["block_swap"]["rate_limiter_throttled_events"]
    config = {drive["drive_id"]: drive for drive in guest.config()["drives"]}
    report["config"] = [config["swap"]["path_on_host"], config["swap"]["rate_limiter"]]
    report["complaints"] = guest.complaints()
    report["status"] = guest.power_off()

report["on host"] = host_reads(root, "d/file")
with open(readonly, "rb") as file:
    report["ro untouched"] = file.read() == b"read me!" * (2 * MIB // 8)
with open(fast, "rb") as file:
    file.seek(3 * 4096)
    report["direct on host"] = file.read(1000 * 4096).split() == [
        b"%d" % number for number in range(1, 1001)
    ]
    file.seek(80 * 65536)
    report["random sum on host"] = hashlib.md5(file.read(32 * 65536)).hexdigest()
json.dump(report, sys.stdout)
