"""``make soak``: clones made, used and ended for minutes; then processes killed at random.

``python -m tests.soak [--seconds 600] [--kills 400] [--seed N] [--json FILE]``; status 1 says that
something has grown, or was not as promised.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter

from tests.fakes import program_guest
from tests.soak import growth, kills, watch
from tests.soak.caller import Worker
from tests.soak.work import Work
from tests.soak.world import World

WARM_UP = 0.15  # of the time for clones: allocators and caches settle
ROUNDS = 30  # samples in the rest of it
SHARE_OF_KILLS = 0.4  # of all the time


def names():
    """Of all operations."""
    return sorted(name[3:] for name in dir(Work) if name.startswith("do_"))


def soak(world, seconds, seed, rounds=ROUNDS, show=lambda _text: None):
    """Clone, use and end for ``seconds``; how often what was done, and the samples.

    Raises:
        AssertionError: something was not as promised.
    """
    done, samples = Counter(), []
    warm_up = seconds * WARM_UP
    with Worker(world) as worker:
        worker.lasting()
        for number in range(-1, rounds):
            length = warm_up if number < 0 else (seconds - warm_up) / rounds
            request = {"round": names(), "seed": f"{seed}-{number}", "seconds": length}
            done.update(worker.ask(length + 120, **request)["done"])
            found = watch.sample(world, worker)
            show(f"{sum(done.values())} operations, {found['processes']} processes")
            if number >= 0:
                samples.append(found)
        worker.end()
    return done, samples


def table(told):
    """Of what :func:`growth.judge` says."""
    lines = [f"{'':34}{'first':>10}{'last':>10}{'most':>10}{'growth':>10}  allowed"]
    for name, row in told.items():
        unit = " (KiB)" if name.endswith("_kib") else ""
        values = "".join(f"{row[key]:>10}" for key in ("first", "last", "most", "growth"))
        verdict = "   GROWS" if row["grows"] else ""
        shown = name.removesuffix("_kib") + unit
        lines.append(f"{shown:34}{values}  {growth.tolerance(name):g}{verdict}")
    return "\n".join(lines)


def main():
    """The exit status."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="for all of it")
    parser.add_argument("--kills", type=int, default=400, help="at most")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--json", help="write what was found to this file")
    options = parser.parse_args()
    if reason := program_guest.why_not():
        print(f"soak: {reason}", file=sys.stderr)
        return 1
    watch.live_apart()
    print(f"seed {options.seed}", flush=True)
    began = time.monotonic()

    def show(text):
        sys.stderr.write(f"\r\033[K{time.monotonic() - began:5.0f} s  {text}")
        sys.stderr.flush()

    report, faults = {"seed": options.seed}, []
    world = World()
    try:
        for_clones = options.seconds * (1 - SHARE_OF_KILLS)
        done, samples = soak(world, for_clones, options.seed, show=show)
        report |= {"done": done, "quantities": growth.judge(samples), "samples": samples}
    except AssertionError as error:
        faults.append(str(error))
    finally:
        world.close()
    world = World()
    try:
        with kills.Killer(world, options.seed) as killer:
            report["kills"] = killer.report
            for_kills = options.seconds * SHARE_OF_KILLS
            kills.run(killer, for_kills, options.kills, lambda k: show(f"{k.number} trials"))
    except AssertionError as error:
        faults.append(str(error))
    finally:
        world.close()
    sys.stderr.write("\n")
    if "quantities" in report:
        print(table(report["quantities"]))
        print(", ".join(f"{name} {count}" for name, count in sorted(report["done"].items())))
        faults += [f"{n} grows" for n, row in report["quantities"].items() if row["grows"]]
    print("killed:", ", ".join(f"{n} {k}" for n, k in sorted(report.get("kills", {}).items())))
    report["faults"] = faults
    if options.json:
        with open(options.json, "w") as file:
            json.dump(report, file, indent=1)
    for fault in faults:
        print(f"FAILED: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
