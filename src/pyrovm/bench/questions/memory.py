"""How much memory does a VMM take beside its guest's?

In the lab, a guest of 128 MiB whose init sleeps; from smaps, without the guest's memory.  Private
is what would be free again if the process ended, shared pages (libraries) not counted.
"""

from __future__ import annotations

from pyrovm.bench import guests, labs
from pyrovm.bench.figures import Answer, Figure, Sample
from pyrovm.bench.questions.boot import QEMU
from pyrovm.bench.terms import Terms

MEMORY_MIB = 128
ROUNDS = 3


def answer(terms: Terms) -> Answer:
    """Measure with whatever kernel there is."""
    found = Answer()
    kernels = guests.available()
    if not kernels:
        found.skipped.append("memory: no kernel in the cache (pyrovm kernel fetch)")
        return found
    flavour, kernel = next(iter(kernels.items()))
    plan = {
        "args": guests.args(serial=True) + " quiet",
        "memory_mib": MEMORY_MIB,
        "rounds": terms.count(ROUNDS, 1),
    }
    seen = labs.ask(
        "memory",
        plan,
        assets={"kernel": kernel.vmlinux, "initrd": guests.tiny_initrd(stays=True)},
        counted=False,
        show=terms.show,
    )
    for what in ("private", "proportional"):
        found.figures.append(
            Figure(
                question="memory",
                name=f"VMM of a running guest, {what}",
                unit="KiB",
                ours=Sample.of(seen[f"pyrovm {what}"]),
                peer=Sample.of(seen[f"qemu {what}"]),
                peer_name=QEMU,
                headline="VMM of a Linux guest, private memory" if what == "private" else "",
                note=f"1 vCPU, {MEMORY_MIB} MiB, {flavour} kernel",
            )
        )
    return found
