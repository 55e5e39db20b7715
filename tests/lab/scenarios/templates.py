"""Branches of a program on the lab's KVM: templates.py JSON, of the image and what to do with it.

Templates on one and several vCPUs, a VM that is branched and goes on, and one that was saved; each
branch's output is reported.
"""

import json
import os
import sys

from pyrovm.unikernel.branch import Rest
from pyrovm.unikernel.outside import Outside
from pyrovm.unikernel.program import Program, environment
from pyrovm.unikernel.readiness import AT_ONCE, Readiness
from pyrovm.unikernel.run import run
from pyrovm.unikernel.saving import Saved, save

BRANCHES = 3
image = json.loads(sys.argv[1])
assets = os.environ["LAB_ASSETS"]
LIBOS = f"{assets}/libos.bin"


class Case:
    """One VM that is branched; its output and its branches' go to files."""

    def __init__(self, name, cpus, *, lives=False, saves="", saved=""):
        self.name, self.lives, self.saves = name, lives, saves
        self.saved = Saved(saved) if saved else None
        self.outside = Outside()
        self.readiness = Readiness(AT_ONCE if saved else "call")
        exe, argv, env = image["exe"], image["argv"], environment("pyrovm") | image["env"]
        self.program = Program(
            f"{assets}/{image['asset']}", exe, argv, env, memory=64 << 20, cpus=cpus
        )
        self.out = os.open(self.file(""), os.O_CREAT | os.O_TRUNC | os.O_WRONLY)

    def file(self, suffix):
        return f"/tmp/{self.name}.out{suffix}"

    def prepare(self, calls):
        finish = self.outside.attach(calls)
        self.readiness.watch(calls, self.outside)
        if self.saved:
            self.saved.restore(calls, self.outside)
        return finish

    def paused(self, pause):
        rest = Rest(pause.vm, pause.calls.waiting)
        if self.saves:
            save(self.saves, rest, self.outside, {"request": REQUEST}, LIBOS)
        if not self.lives:
            rest.detach()
            rest.use_huge_pages()
        for number in range(BRANCHES):
            pid = os.fork()
            if not pid:
                self.go_on(pause, rest, number)
                return
            os.waitpid(pid, 0)
        if not self.lives:
            os._exit(0)

    def go_on(self, pause, rest, number):
        if self.lives:
            rest.detach()
        fd = os.open(self.file(number), os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(fd, self.out)
        pause.calls.waiting.branch()
        rest.wake()
        rest.become_other()
        pause.stdio.open()
        pause.calls.set_streams(pause.stdio.fds)
        rest.go_on([f"branch {number}"])
        self.outside.branch(())

    def report(self):
        pid = os.fork()
        if not pid:
            nothing = os.open(os.devnull, os.O_RDONLY)
            streams = nothing, self.out, self.out
            outcome = run(
                self.program,
                LIBOS,
                streams=streams,
                log_fd=self.out,
                timeout=120,
                prepare=self.prepare,
                paused=self.paused,
                prepared=self.saved,
            )
            os._exit(outcome.status)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        texts = []
        for suffix in ("", *range(BRANCHES)):
            with open(self.file(suffix)) as file:
                texts.append(file.read())
        return {"status": status, "own": texts[0], "branches": texts[1:]}


REQUEST = {name: [name] for name in ("image", "exe", "libos", "cwd", "hostname")} | {
    "memory": ["67108864"],
    "cpus": ["1"],
}
os.makedirs("/tmp/saved-template", exist_ok=True)
report = {
    "rests": Case("rests", 1, saves="/tmp/saved-template").report(),
    "rests-smp": Case("rests-smp", 2).report(),
    "lives": Case("lives", 1, lives=True).report(),
    "saved": Case("saved", 1, saved="/tmp/saved-template").report(),
}
json.dump(report, sys.stdout)
