"""How microVMs are paused, and all the ways in which they end."""

import json
import sys
import time

from pyrovm import ApiError, Balloon
from tests.lab.guests import Guest

# The loop's file is empty for a moment each time it is written.
COUNT = "x=; until [ $x ]; do read x </tmp/n; done; echo $x"
report = {}


def fault(call):
    try:
        call()
    except ApiError as error:
        return error.fault
    return "accepted"


def last_words(guest):
    """The log's last messages, without their stamps and what the vCPUs still did meanwhile."""
    messages = [line.partition("] ")[2] for line in guest.log.splitlines()]
    return [m for m in messages if "unknown port" not in m and "suppressed" not in m][-3:]


# ------------------------------------------------------------------ pause and resume
with Guest(cpus=2, balloon=Balloon(stats_interval_s=1)) as guest:
    guest.boot()
    report["states"] = [guest.info()["state"]]
    guest.run("(while :; do n=$((n+1)); echo $n >/tmp/n; done) &")
    counted = int(guest.run(f"sleep 0.5; {COUNT}"))
    guest.pause()
    report["states"].append(guest.info()["state"])
    with open(f"/proc/{guest.pid}/stat") as file:
        ticks = int(file.read().split()[13])
    guest.console.write(COUNT + "\n")  # typed, and not read before the guest goes on
    length = len(guest.console.text)
    time.sleep(3)
    with open(f"/proc/{guest.pid}/stat") as file:
        report["ticks while paused"] = int(file.read().split()[13]) - ticks
    report["silent while paused"] = len(guest.console.text) == length
    report["paused twice"] = fault(guest.pause)
    report["api while paused"] = guest.config()["machine-config"]["vcpu_count"]
    guest.resume()
    after = int(guest.console.wait_for("\n").strip())
    guest.console.wait_for("\x1e0\x1e")
    report["a little progress at the most"] = counted <= after < counted * 10 + 10000
    report["goes on"] = int(guest.run(f"sleep 0.5; {COUNT}")) > after
    report["resumed twice"] = fault(guest.resume)
    report["states"].append(guest.info()["state"])
    report["watchdog"] = guest.run("dmesg | grep -c -i -e lockup -e stall; true")
    latencies = guest.metrics()["latencies_us"]
    report["latencies"] = [latencies["vmm_pause_vm"] > 0, latencies["vmm_resume_vm"] > 0]
    report["start again"] = fault(
        lambda: guest.request("PUT", "/actions", {"action_type": "InstanceStart"})
    )
    report["complaints"] = guest.complaints()

    # A guest that powers off has no way to say so: it idles until somebody ends it.
    guest.console.write("poweroff -f\n")
    guest.console.wait_for("reboot: ")
    report["powered off"] = guest.info()["state"]
    guest.pause()
    report["stopped while paused"] = guest.stop()

# --------------------------------------------------------------------- Ctrl-Alt-Del
with Guest(cmdline="console=ttyS0 reboot=k panic=-1 quiet i8042.noaux i8042.dumbkbd") as guest:
    guest.boot()
    guest.run("trap 'echo three keys; reboot -f' INT; echo 0 >/proc/sys/kernel/ctrl-alt-del")
    guest.ctrl_alt_del()
    guest.console.write("\n")  # the trap waits for the shell's read to end
    guest.console.wait_for("three keys")
    report["keys"] = [guest.wait(60), last_words(guest)]

# -------------------------------------------------------------------- ways to end
ENDS = {
    "panic": ("reboot=k panic=-1", "exit"),  # of process 1
    "triple fault": ("reboot=t panic=-1", "reboot -f"),
}
for name, (words, command) in ENDS.items():
    with Guest(cmdline=f"console=ttyS0 quiet {words}") as guest:
        guest.boot()
        guest.console.write(command + "\n")
        report[name] = [guest.wait(60), last_words(guest)]

json.dump(report, sys.stdout)
