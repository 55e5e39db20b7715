"""Pause a microVM, and look at what it has cost so far."""

import time

from small_linux import PATIENCE, small_linux

from pyrovm import MicroVM

GUEST = "while sleep 0.1; do echo tick; done"

with small_linux(GUEST) as linux, MicroVM(**linux) as vm:
    vm.start()
    vm.console.wait_for("tick", PATIENCE)

    with vm.paused():
        print("It is", vm.info()["state"])
        before = vm.console.text
        time.sleep(1)
        print("In a second it said:", vm.console.text.removeprefix(before) or "nothing")

    vm.console.wait_for("tick", PATIENCE)
    print("It is", vm.info()["state"])

    metrics = vm.metrics()
    print("Bytes to the console:", metrics["uart"]["write_count"])
    print("Exits for ports:", metrics["vcpu"]["exit_io_in"] + metrics["vcpu"]["exit_io_out"])
    print("Time to pause, in microseconds:", metrics["latencies_us"]["vmm_pause_vm"])
