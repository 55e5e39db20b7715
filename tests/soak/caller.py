"""A worker from outside."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.soak.world import TIMEOUT

ROOT = Path(__file__).resolve().parents[2]
START = 300  # seconds, as images may have to be made


class Worker:
    """The process; as a context manager it is killed at the end."""

    def __init__(self, world):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.worker"],
            env=world.environment,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(TIMEOUT)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(BrokenPipeError):  # a request that it has not read
                stream.close()

    def send(self, **request):
        """Ask it for something; nothing if it is not there any more."""
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def answer(self, timeout=TIMEOUT):
        """What it says to that; None where it has been killed.

        Raises:
            AssertionError: it hangs, or something has happened that must not.
        """
        if not select.select([self.process.stdout], [], [], timeout)[0]:
            self.process.send_signal(signal.SIGUSR1)
            time.sleep(1)  # to write down where it is
            os.set_blocking(self.process.stderr.fileno(), False)
            raise AssertionError(f"no answer in {timeout} s: {self.process.stderr.read()}")
        line = self.process.stdout.readline()
        if not line:
            if self.process.wait(TIMEOUT) == -9:
                return None
            raise AssertionError(f"the caller has ended: {self.process.stderr.read()}")
        answer = json.loads(line)
        if "broken" in answer:
            raise AssertionError(answer["broken"])
        return answer

    def ask(self, timeout=TIMEOUT, **request):
        """Both."""
        self.send(**request)
        return self.answer(timeout)

    def lasting(self):
        """Have what lasts."""
        return self.ask(START, lasting=True)

    def end(self):
        """Let it end by itself.

        Raises:
            AssertionError: with what it said, if that is not without a word.
        """
        _, said = self.process.communicate(timeout=TIMEOUT)
        if self.process.returncode or said:
            raise AssertionError(f"the caller ended with {self.process.returncode}: {said}")
