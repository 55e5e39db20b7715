"""How soon does a saved Linux guest go on, and does that depend on how much memory it has?

In the lab, counted: a guest with a lean kernel whose init makes a hypercall every millisecond is
saved to files and restored in new processes; the files are in the page cache.  From the word that
loads it (``PUT /snapshot/load`` with ``resume_vm``; QEMU's ``migrate-incoming`` from a file) of a
VMM that stands ready: to the first entry into the guest, and to its next hypercall, which includes
what it waits for and the memory that it touches first.
"""

from __future__ import annotations

from pathlib import Path

from pyrovm.bench import guests, labs, peers
from pyrovm.bench.figures import Answer, Curve, Figure, Sample
from pyrovm.bench.terms import Terms

QUESTION = "restore"
SIZES_MIB = (128, 256, 512, 1024, 2048)
PEERS_SIZES_MIB = (128, 512, 2048)
COMPARED_MIB = 512
TARGET = 0.5  # times QEMU
GROWTH = 1.2  # times, from the least to the most memory
ROUNDS = 1
LAB_MIB = 3072
TIMEOUT = 240.0  # seconds
OURS = "pyrovm"


def answer(terms: Terms) -> Answer:
    """Save and restore by all that can."""
    found = Answer()
    kernels = guests.available()
    if not kernels:
        found.skipped.append("all of it: no kernel in the cache (pyrovm kernel fetch)")
        return found
    flavour, kernel = next(iter(kernels.items()))
    vmms = peers.usable((peers.QEMU, peers.FIRECRACKER), terms, found.skipped)
    ours, theirs = (SIZES_MIB, PEERS_SIZES_MIB) if not terms.quick else ((128, 512), (512,))
    seen = labs.ask(
        "restore",
        {
            "args": guests.args(serial=False),
            "rounds": terms.count(ROUNDS, 1),
            "sizes_mib": {OURS: ours, **{peer.program: theirs for peer in vmms}},
        },
        assets={
            "kernel": kernel.vmlinux,
            "initrd": guests.tiny_initrd(guests.TICKS),
            **{p.program: Path(p.path) for p in vmms if p.path and p is not peers.QEMU},
        },
        counted=True,
        memory_mib=LAB_MIB,
        timeout=TIMEOUT,
        show=terms.show,
    )
    found.skipped += [f"{peer}: {why}" for peer, why in seen["failed"].items()]
    names = {OURS: OURS} | {peer.program: peer.name for peer in vmms}
    # The first restore of each reads its program and fills caches.
    times = {
        names[program]: {
            int(mib): {what: v[1:] for what, v in each.items()} for mib, each in s.items()
        }
        for program, s in seen["found"].items()
    }
    _figures(found, times, flavour)
    return found


def _figures(found: Answer, times: dict[str, dict[int, dict[str, list[float]]]], kind: str) -> None:
    for what, text in (("entry", "its first instruction"), ("hypercall", "its next hypercall")):
        samples = {
            name: Sample.of(sizes[COMPARED_MIB][what])
            for name, sizes in times.items()
            if COMPARED_MIB in sizes
        }
        ours = samples.pop(OURS)
        peer = samples.pop(peers.QEMU.name, None)
        is_first = what == "entry"
        found.figures.append(
            Figure(
                QUESTION,
                f"Linux guest of {COMPARED_MIB} MiB, load to {text}",
                labs.COUNTED,
                ours,
                peer,
                peers.QEMU.name if peer else "",
                target=TARGET if is_first else None,
                others=samples,
                note=f"{kind} kernel",
                headline="Linux, restored: load to its first instruction" if is_first else "",
            )
        )
    sizes = times[OURS]
    least, most = Sample.of(sizes[min(sizes)]["entry"]), Sample.of(sizes[max(sizes)]["entry"])
    found.figures.append(
        Figure(
            QUESTION,
            f"load with {max(sizes)} MiB, beside {min(sizes)} MiB",
            labs.COUNTED,
            most,
            least,
            f"pyrovm with {min(sizes)} MiB",
            target=GROWTH,
        )
    )
    lines = {
        name: [(float(mib), Sample.of(each["entry"]).median) for mib, each in by_size.items()]
        for name, by_size in times.items()
    }
    title = "Restore of a Linux guest: load to its first instruction"
    found.curves.append(Curve(QUESTION, "restore", title, "guest memory, MiB", labs.COUNTED, lines))
