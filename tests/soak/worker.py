"""The process that works: ``python -m tests.soak.worker``; a request is a line of JSON, so is the
answer."""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

from pyrovm import MicroVMError
from pyrovm.errors import PyrovmError
from tests.soak.work import Work

# What users are promised to see; anything else is our mistake.
CLEAR = (PyrovmError, MicroVMError, BrokenPipeError)


def main():
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    faulthandler.register(signal.SIGUSR1)  # whoever waits in vain asks where we are
    work = Work(Path(os.environ["PYROVM_SOAK_FILES"]))
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = perform(work, request)
        except BaseException:
            answer = {"broken": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
    work.close()


def perform(work, request):
    """``lasting``: have what lasts; ``do``: an operation; ``round``: many, for some seconds."""
    if "lasting" in request:
        ended = work.lasting()
        gc.collect()
        return {"ended": ended, **work.pids(), **resources()}
    if "do" in request:
        began = time.monotonic()
        answer = attempt(work, request["do"])
        return {**answer, "seconds": time.monotonic() - began}
    rng = random.Random(request["seed"])
    done = dict.fromkeys(request["round"], 0)
    until = time.monotonic() + request["seconds"]
    while time.monotonic() < until:
        name = rng.choice(request["round"])
        work.do(name)
        done[name] += 1
    return {"done": done}


def attempt(work, name):
    """An operation that may be disturbed."""
    try:
        work.do(name)
    except CLEAR as error:
        if not str(error):
            raise
        return {"error": f"{type(error).__name__}: {error}"}
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"it hangs: {error}") from None
    return {"error": ""}


def resources():
    """Of this very process."""
    return {"descriptors": len(os.listdir("/proc/self/fd")), "threads": threading.active_count()}


if __name__ == "__main__":
    main()
