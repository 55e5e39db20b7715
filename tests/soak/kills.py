"""Random kills: an operation runs, a process that takes part in it is killed at a random moment,
and everybody else has to behave as promised; nothing may be left."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import time
from collections import Counter

from tests.soak import world as roles
from tests.soak.caller import Worker
from tests.soak.world import wait_until

# Who takes part in what.  A command outlives the shell that has started it, as it should: where
# there is one, the worker is killed too, and the command by us.
TAKE_PART = {
    "program": (roles.WORKER, roles.HELPER, roles.PROGRAM),
    "branches": (roles.WORKER, roles.HELPER, roles.TEMPLATE, roles.BRANCH),
    "template": (roles.WORKER, roles.HELPER, roles.TEMPLATE, roles.BRANCH, roles.PROGRAM),
    "map": (roles.HELPER, roles.TEMPLATE, roles.BRANCH),
    "machine": (roles.WORKER, roles.LAUNCHER, roles.VMM),
    "clones": (roles.WORKER, roles.LAUNCHER, roles.VMM, roles.CLONE, roles.CLONE),
    "command": (roles.WORKER, roles.STUB, roles.LAUNCHER, roles.VMM),
    "snapshot": (roles.WORKER, roles.LAUNCHER, roles.VMM),
    "live": (roles.WORKER, roles.VMM, roles.CLONE, roles.CLONE),
    "served": (roles.WORKER, roles.VMM, roles.HANDLER, roles.HANDLER),
}
COMMANDS = (roles.STUB, roles.HANDLER)
# Whose death ends what lasts; nobody else's may.
ENDS = {
    "vm": (roles.VMM, roles.CLONE),
    "template": (roles.TEMPLATE, roles.PROGRAM),
    "functions": (roles.TEMPLATE, roles.PROGRAM),
}
POOL = 2  # of the launcher
SPARE = 2  # descriptors: a machine that was started without the launcher has another number
NOBODY = "nobody"


class Killer:
    """Trials one after the other; ``report`` counts the victims by role and operation."""

    def __init__(self, world, seed):
        self.world = world
        self.seed = seed
        self.report = Counter()
        self.number = 0
        self.errors = Counter()
        self._worker = None

    def __enter__(self):
        self._replace()
        self._usual = {}
        for name in TAKE_PART:
            self._usual[name] = self._worker.ask(do=name)["seconds"]
        self._first = self._lasts = self._worker.lasting()
        return self

    def __exit__(self, *_):
        self._worker.__exit__()

    def _replace(self):
        self._worker = Worker(self.world)
        self._lasts = self._worker.lasting()

    def trial(self):
        """One kill, and all that has to be so afterwards.

        Raises:
            AssertionError: something is not as promised; says how to do it again.
        """
        self.number += 1
        rng = random.Random(f"{self.seed}-{self.number}")
        name = rng.choice(list(TAKE_PART))
        role = rng.choice(TAKE_PART[name])
        delay = rng.uniform(0.0, 0.9 * self._usual[name])
        try:
            victim = self._kill_during(rng, name, role, delay)
        except AssertionError as error:
            raise AssertionError(
                f"seed {self.seed}, trial {self.number}: {role} killed {delay * 1e3:.0f} ms after "
                f"the start of {name}: {error}"
            ) from None
        self.report[f"{role if victim else NOBODY} in {name}"] += 1

    def _kill_during(self, rng, name, role, delay):
        victim = None
        self._worker.send(do=name)
        has_answered = self._wait(delay)
        while victim is None and not has_answered:
            there = [pid for pid, is_a in self.world.processes().items() if is_a == role]
            if there:
                victim = rng.choice(sorted(there))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
            else:
                has_answered = self._wait(0.001)
        answer = self._worker.answer()
        assert answer is not None or role == roles.WORKER, "the caller has been killed"
        if victim is not None and role == roles.WORKER:  # it may have answered just before
            self._after_worker()
        else:
            self._check_answer(role if victim else NOBODY, answer["error"])
            ended = set(self._check_lasting(name, role, victim))
            assert not ended, f"{', '.join(ended)} had to live on"
        self._check_left()
        return victim

    def _wait(self, seconds):
        """Whether there is an answer meanwhile."""
        return bool(select.select([self._worker.process.stdout], [], [], seconds)[0])

    def _check_answer(self, role, error):
        """An error has a cause."""
        if error:
            self.errors[role, error] += 1
            assert role not in (NOBODY, roles.LAUNCHER), error

    def _check_lasting(self, name, role, victim):
        """What has ended although nobody killed it."""
        before = self._lasts
        self._lasts = self._worker.lasting()
        for thing in self._lasts["ended"]:
            is_meant = role in ENDS[thing] if victim else False
            if thing == "vm":
                is_meant = victim == before["vm"]
            if not is_meant:
                yield thing

    def _after_worker(self):
        """Its own end with it, and the next one finds a clean place."""
        self._worker.__exit__()
        for pid, role in self.world.processes().items():
            if role in COMMANDS:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not self._strangers(None), self._tell)
        self._replace()

    def _check_left(self):
        """No process but those that last and those that wait; no file of anything else."""
        wait_until(lambda: not self._strangers(self._lasts), self._tell)
        left = {path for path in self.world.left_files() if "/run/pyrovm/launcher." not in path}
        ours = f"{self.world.tmp}/pyrovm-{self._worker.process.pid}-"
        assert len(left) == 1, f"left: {sorted(left)}"
        assert left.pop().startswith(ours), f"left: {self.world.left_files()}"
        for what, spare in (("descriptors", SPARE), ("threads", 0)):
            now, first = self._lasts[what], self._first[what]
            assert now <= first + spare, f"the caller has {now} {what}, at first {first}"

    def _strangers(self, lasts):
        """How many processes there are too many, by their roles."""
        there = self.world.processes()
        usual = Counter({roles.LAUNCHER: 1, roles.VMM: POOL})
        if lasts:
            usual += Counter({roles.WORKER: 1, roles.HELPER: 1, roles.TEMPLATE: 1, roles.BRANCH: 1})
            usual[roles.PROGRAM] = 2  # the spare of the helper, and functions' template
            there.pop(lasts["vm"], None)
        return Counter(there.values()) - usual

    def _tell(self):
        return f"only those are left that should be; too many: {dict(self._strangers(self._lasts))}"


def run(killer, seconds, times, show=lambda killer: None):
    """``times`` trials, or as many as there is time for."""
    until = time.monotonic() + seconds
    for _ in range(times):
        if time.monotonic() > until:
            return
        killer.trial()
        show(killer)
