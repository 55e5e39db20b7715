"""How much memory does a VMM take beside its guest's?

In the lab, a guest of 128 MiB whose init sleeps; from smaps, without the guest's memory.  Private
is what would be free again if the process ended, shared pages (libraries) not counted.
"""

from __future__ import annotations

from pyrovm.bench import guests, labs, peers
from pyrovm.bench.figures import Answer, Figure, Sample
from pyrovm.bench.questions.boot import NAMES, QEMU
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
    vmms = peers.usable(peers.VMMS, terms, found.skipped)
    plan = {
        "args": guests.args(serial=True) + " quiet",
        "memory_mib": MEMORY_MIB,
        "rounds": terms.count(ROUNDS, 1),
        "peers": [peer.program for peer in vmms],
    }
    seen = labs.ask(
        "memory",
        plan,
        assets={
            "kernel": kernel.vmlinux,
            "initrd": guests.tiny_initrd(guests.STAYS),
            **{peer.program: peer.path for peer in vmms if peer.path and peer is not peers.QEMU},
        },
        counted=False,
        show=terms.show,
    )
    found.skipped += [f"{peer}: {why}" for peer, why in seen["failed"].items()]
    for what in ("private", "proportional"):
        theirs = {
            peer.name: Sample.of(seen["found"][key])
            for peer in vmms
            if (key := f"{NAMES.get(peer.name, peer.name)} {what}") in seen["found"]
        }
        qemu = theirs.pop(QEMU, None)
        found.figures.append(
            Figure(
                question="memory",
                name=f"VMM of a running guest, {what}",
                unit="KiB",
                ours=Sample.of(seen["found"][f"pyrovm {what}"]),
                peer=qemu,
                peer_name=QEMU if qemu else "",
                others=theirs,
                headline="VMM of a Linux guest, private memory" if what == "private" else "",
                note=f"1 vCPU, {MEMORY_MIB} MiB, {flavour} kernel",
            )
        )
    return found
