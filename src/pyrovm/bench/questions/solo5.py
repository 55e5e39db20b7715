"""How soon does a Solo5 unikernel run?

A unikernel of the hvt target that writes one line, natively, by ``pyrovm solo5`` and by Solo5's own
tender: until that line has arrived, and until the process has ended.
"""

from __future__ import annotations

import hashlib
import os

from pyrovm.bench import peers, programs
from pyrovm.bench.figures import Answer, Figure, Sample
from pyrovm.bench.programs import Ran
from pyrovm.bench.terms import Terms
from pyrovm.guest import cache
from pyrovm.guest import programs as tools

QUESTION = "solo5"
ROUNDS = 51
FOLDER = programs.FOLDER.parent / "solo5"

# Ring 0 is interpreted on a software-only KVM, whose interpreter knows no SSE.
FLAGS = (
    *("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Os", "-ffreestanding", "-nostdlib", "-static"),
    *("-no-pie", "-fno-pie", "-mno-red-zone", "-mgeneral-regs-only", "-fno-stack-protector"),
    *("-fcf-protection=none", "-fno-asynchronous-unwind-tables"),
    *("-Wl,--build-id=none", "-Wl,-z,max-page-size=0x1000"),
)


def image() -> str:
    """The unikernel, compiled once.

    Raises:
        Unsupported: there is no compiler.
    """
    (gcc,) = tools.require("gcc")
    sources = [FOLDER / "hello.c", FOLDER / "link.ld"]
    text = b"".join(source.read_bytes() for source in sources) + " ".join(FLAGS).encode()
    target = cache.folder("bench") / f"{hashlib.sha256(text).hexdigest()[:16]}.hvt"
    if not target.exists():
        part = target.with_suffix(f".{os.getpid()}")
        tools.run(gcc, *FLAGS, f"-Wl,-T,{sources[1]}", "-o", part, sources[0])
        part.rename(target)
    return str(target)


def answer(terms: Terms) -> Answer:
    """Both by turns."""
    found = Answer()
    unikernel = image()
    ways = {"pyrovm solo5": [programs.command(), "solo5", unikernel]}
    for peer in peers.usable((peers.SOLO5,), terms, found.skipped):
        ways[peer.name] = [str(peer.path), unikernel]
    seen: dict[str, list[Ran]] = {name: [] for name in ways}
    for number in terms.rounds(ROUNDS + 1, "hello"):
        for name, argv in ways.items():
            ran = programs.timed(argv)
            if number:  # the first one has filled caches
                seen[name].append(ran)
    for text, field in (("first line", "first_ms"), ("end of the process", "end_ms")):
        samples = {
            name: Sample.of(getattr(ran, field) for ran in runs) for name, runs in seen.items()
        }
        ours = samples.pop("pyrovm solo5")
        peer_name = next(iter(samples), "")
        found.figures.append(
            Figure(
                QUESTION,
                f"pyrovm solo5: process start to {text}",
                "ms",
                ours,
                samples.get(peer_name),
                peer_name,
            )
        )
    return found
