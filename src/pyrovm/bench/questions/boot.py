"""How soon does a guest run its init, and how soon is it over?

The same guest by turns under pyrovm, QEMU's microvm and other monitors that are installed.  Init is
a program of 40 bytes whose first act is seen by the lab's kernel (bench/inside/tracing.py) and
whose second resets the machine.

* request: from the word that starts the guest (InstanceStart; ``cont``) of a VMM that stands ready
  and idle.  QEMU has loaded the kernel into the guest by then.
* process: from the start of the VMM's process, told all by a file or its command line.
* end: until the process has ended, which includes the guest's reset and freeing its memory.
"""

from __future__ import annotations

from pyrovm.bench import guests, labs, peers
from pyrovm.bench.figures import Answer, Figure, Sample
from pyrovm.bench.terms import Terms

QEMU = peers.QEMU.name
NAMES = {QEMU: "qemu"}  # what the lab calls it
TARGET = 1.1  # times QEMU, from the request to init
LEAN_TARGET_MS = 60.0  # counted, serial off
ROUNDS = {  # (flavour, counted): with the serial console off and on
    ("lean", False): (5, 3),
    ("cloud", False): (3, 3),
    ("lean", True): (1, 1),  # what is counted repeats
    ("cloud", True): (1, 1),
}

_WORDS = {
    ("request", "init"): "request to init",
    ("process", "init"): "process start to init",
    ("request", "end"): "request to end of process",
    ("process", "end"): "process start to its end",
}


def answer(flavour: str, terms: Terms, *, counted: bool) -> Answer:
    """Boot the kernel ``flavour``, serial console off and on, by the clock or counted."""
    kernels = guests.available()
    found = Answer()
    if flavour not in kernels:
        found.skipped.append(f"boot of the {flavour} kernel: not in the cache (pyrovm kernel)")
        return found
    name = f"boot-{flavour}-counted" if counted else f"boot-{flavour}"
    assets = {
        "kernel": kernels[flavour].vmlinux,
        "lean": kernels.get("lean", kernels[flavour]).vmlinux,
        "bzimage": kernels[flavour].bzimage,
        "initrd": guests.tiny_initrd(),
    }
    vmms = peers.usable(peers.VMMS, terms, found.skipped)
    assets |= {peer.program: peer.path for peer in vmms if peer.path and peer is not peers.QEMU}
    for serial in (False, True):
        title = f"serial {'on' if serial else 'off'}"
        # The console's output takes so long that nothing else would be seen beside it.
        ways = ["request"] if serial else ["request", "process"]
        plan = {
            "serial": serial,
            "args": guests.args(serial=serial),
            "ways": ways,
            "rounds": 1 if terms.quick else ROUNDS[flavour, counted][serial],
            "warm": "lean",
            "peers": [peer.program for peer in vmms],
        }
        seen = labs.ask(
            "boot",
            plan,
            assets=assets,
            counted=counted,
            show=lambda text, title=title: terms.show(f"{title}, {text}"),  # type: ignore[misc]
        )
        took = seen["took"]
        found.skipped += [f"{peer}, {title}: {why}" for peer, why in seen["failed"].items()]
        for (way, what), words in _WORDS.items():
            if way in ways:
                ours = Sample.of(took[f"pyrovm {way} {what}"])
                theirs = {
                    peer.name: Sample.of(took[key])
                    for peer in vmms
                    if (key := f"{NAMES.get(peer.name, peer.name)} {way} {what}") in took
                }
                peer_sample = theirs.pop(QEMU, None)
                figure = Figure(
                    question=name,
                    name=f"{flavour} kernel, {title}: {words}",
                    unit=labs.COUNTED if counted else "ms",
                    ours=ours,
                    peer=peer_sample,
                    peer_name=QEMU if peer_sample else "",
                    others=theirs,
                    # Counted only: the clock's figures are those of a busy machine, too.
                    target=TARGET if counted and (way, what) == ("request", "init") else None,
                    headline=f"Linux, {flavour} kernel: `InstanceStart` to init"
                    if counted and not serial and (way, what) == ("request", "init")
                    else "",
                )
                found.figures.append(figure)
        if counted and flavour == "lean" and not serial:
            found.figures.append(
                Figure(
                    question=name,
                    name="lean kernel, serial off: request to init, alone",
                    unit=labs.COUNTED,
                    ours=Sample.of(took["pyrovm request init"]),
                    target=LEAN_TARGET_MS,
                    absolute=True,
                )
            )
    return found
