"""How soon does a guest run its init, and how soon is it over?

The same guest by turns under pyrovm and under QEMU's microvm.  Init is a program of 40 bytes whose
first act is seen by the lab's kernel (bench/inside/tracing.py) and whose second resets the machine.

* request: from the word that starts the guest (InstanceStart; ``cont``) of a VMM that stands ready
  and idle.  QEMU has loaded the kernel into the guest by then.
* process: from the start of the VMM's process, told all by a file or its command line.
* end: until the process has ended, which includes the guest's reset and freeing its memory.
"""

from __future__ import annotations

from pyrovm.bench import guests, labs
from pyrovm.bench.figures import Answer, Figure, Sample
from pyrovm.bench.terms import Terms

QEMU = "QEMU microvm"
TARGET = 1.1  # times QEMU, from the request to init
LEAN_TARGET_MS = 60.0  # counted, serial off
ROUNDS = {  # (flavour, counted): with the serial console off and on
    ("lean", False): (5, 3),
    ("cloud", False): (3, 3),
    ("lean", True): (2, 1),
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
        "initrd": guests.tiny_initrd(),
    }
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
        }
        took = labs.ask(
            "boot",
            plan,
            assets=assets,
            counted=counted,
            show=lambda text, title=title: terms.show(f"{title}, {text}"),  # type: ignore[misc]
        )
        for (way, what), words in _WORDS.items():
            if way in ways:
                ours = Sample.of(took[f"pyrovm {way} {what}"])
                peer = Sample.of(took[f"qemu {way} {what}"])
                figure = Figure(
                    question=name,
                    name=f"{flavour} kernel, {title}: {words}",
                    unit=labs.COUNTED if counted else "ms",
                    ours=ours,
                    peer=peer,
                    peer_name=QEMU,
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
