"""One kernel, in one of its forms, on several numbers of vCPUs.

boot.py FORM CPUS...: FORM is ``pvh`` or ``elf64`` (the two entries of the ELF file) or ``bzImage``.
"""

import json
import struct
import sys

from tests.lab.guests import Guest, asset

PT_NULL, PT_NOTE = 0, 4
EHDR, PHDR = 64, 56

form, *counts = sys.argv[1:]
report = {}


def without_notes(path):
    """A copy of an ELF file whose notes nobody finds: without them it has no PVH entry."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    (phnum,) = struct.unpack_from("<H", data, 56)
    for at in range(EHDR, EHDR + phnum * PHDR, PHDR):
        if struct.unpack_from("<I", data, at) == (PT_NOTE,):
            struct.pack_into("<I", data, at, PT_NULL)
    with open("/tmp/vmlinux", "wb") as file:
        file.write(data)
    return "/tmp/vmlinux"


kernel = asset("bzImage" if form == "bzImage" else "vmlinux")
if form == "elf64":
    kernel = without_notes(kernel)

for count in map(int, counts):
    with Guest(kernel, cpus=count, memory=192) as guest:
        guest.boot()
        (loaded,) = [line for line in guest.log.splitlines() if "boot protocol" in line]
        report[count] = {
            "protocol": loaded.partition("] ")[2],
            "cpus": guest.run("nproc"),
            "online": guest.run("cat /sys/devices/system/cpu/online"),
            "clock": guest.run(
                "cat /sys/devices/system/clocksource/clocksource0/current_clocksource"
            ),
            "memory fits": 120 << 10
            < int(guest.run("grep MemTotal /proc/meminfo").split()[1])
            < 192 << 10,
            "complaints": guest.complaints(),
            "status": guest.power_off(),
        }
json.dump(report, sys.stdout)
