"""Page-fault handlers die under guests that wait for pages: every VMM ends, none stays for ever."""

import json
import os
import subprocess
import sys
import time

from tests.lab.guests import Guest

ROUNDS = 3
report = {"ended": 0, "said why": 0}

with Guest(memory=128) as vm:
    vm.boot()
    vm.run("dd if=/dev/urandom of=/tmp/data bs=1M count=16 2>/dev/null")
    snapshot = vm.snapshot("/tmp/state")
for number in range(ROUNDS):
    path = f"/tmp/uffd{number}"
    serve = [sys.executable, "-m", "pyrovm.cli.main", "snapshot", "serve", snapshot.memory, path]
    with subprocess.Popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as handler:
        while not os.path.exists(path):
            time.sleep(0.1)
        with Guest.restore(snapshot, page_server=path) as vm:
            vm.run("true")
            handler.kill()
            vm.console.write("md5sum /tmp/data\n")
            report["ended"] += vm.wait(60) != 0
            report["said why"] += "page-fault handler" in vm.log
json.dump(report, sys.stdout)
