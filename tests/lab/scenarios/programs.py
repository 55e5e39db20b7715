"""Programs in VMs of their own on the lab's KVM: programs.py JSON, of images and arguments."""

import json
import os
import sys

from pyrovm.unikernel.program import Program, environment
from pyrovm.unikernel.run import run

plan = json.loads(sys.argv[1])
assets = os.environ["LAB_ASSETS"]
report = {}
for name, image in plan.items():
    program = Program(
        f"{assets}/{image['asset']}",
        image["exe"],
        image["argv"],
        environment("pyrovm") | image["env"],
        memory=192 << 20,
        cpus=image["cpus"],
    )
    output, errors = f"/tmp/{name}.out", f"/tmp/{name}.err"
    with open(output, "wb") as out, open(errors, "wb") as err, open(os.devnull) as nothing:
        streams = nothing.fileno(), out.fileno(), err.fileno()
        outcome = run(
            program, f"{assets}/libos.bin", streams=streams, log_fd=err.fileno(), timeout=120
        )
    with open(output) as out, open(errors) as err:
        report[name] = {
            "status": outcome.status,
            "panic": outcome.panic,
            "output": out.read(),
            "errors": err.read(),
        }
json.dump(report, sys.stdout)
