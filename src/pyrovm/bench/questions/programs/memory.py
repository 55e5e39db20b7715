"""What programs in VMs take: on disk, in memory, and two hundred at once."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyrovm
from pyrovm.bench import programs
from pyrovm.bench.figures import Answer, Figure, Sample
from pyrovm.bench.smaps import children, sizes
from pyrovm.bench.terms import Terms
from pyrovm.image import index
from pyrovm.libos import build

QUESTION = "programs-memory"
IMAGE_KIB, PRIVATE_KIB = 300, 6 << 10
VMS = 200
PYTHON = "import sys; print('hello', flush=True); sys.stdin.read()"


def _figure(name: str, ours: list[int], peer: list[int] | None = None) -> Figure:
    kind, sample = ("a plain process", Sample.of(peer)) if peer else ("", None)
    return Figure(QUESTION, name, "KiB", Sample.of(ours), sample, kind)


def _image(hello: str) -> Figure:
    image = index.find_or_build([hello])
    paths = image.root, build.path()
    image_kib, libos_kib = (os.path.getsize(path) >> 10 for path in paths)
    return Figure(
        QUESTION,
        "static hello: image and library OS, on disk",
        "KiB",
        Sample.of([image_kib + libos_kib]),
        target=IMAGE_KIB,
        absolute=True,
        note=f"image {image_kib} KiB, library OS {libos_kib} KiB; hello is linked with musl",
    )


@contextlib.contextmanager
def _staying(argv: list[str]) -> Iterator[int]:
    """A process that has said hello and waits for the end of its input; its number."""
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=programs.ENVIRONMENT
    ) as process:
        assert process.stdin
        assert process.stdout
        if process.stdout.readline() != b"hello\n":
            raise RuntimeError(f"no hello: {argv}")
        yield process.pid
        process.stdin.close()


def _one(words: list[str]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Sizes in a VM, of the VMM's process with its guest, and as a plain process."""
    with _staying(programs.in_vm(*words)) as vm, _staying(words) as plain:
        return sizes(vm), sizes(plain)


@contextlib.contextmanager
def _many(hello: str, count: int) -> Iterator[int]:
    """``count`` VMs that have all said hello; how many of them live."""
    readable, writable = os.pipe()
    said, say = os.pipe()

    def one() -> None:
        pyrovm.run([hello, "stay"], stdin=readable, stdout=say, timeout=programs.TIMEOUT)

    heard = 0
    with ThreadPoolExecutor(count) as pool:
        runs = []
        try:
            for _ in range(count):
                runs.append(pool.submit(one))
                # One after the other: they are to live, not to race.
                if select.select([said], [], [], programs.TIMEOUT)[0]:
                    heard += len(os.read(said, 6))
            yield heard // len("hello\n") - sum(run.done() for run in runs)
        finally:
            os.close(writable)
            for run in runs:
                run.result()
            for fd in (readable, said, say):
                os.close(fd)


def answer(terms: Terms) -> Answer:
    """On disk, one, many."""
    found = Answer()
    hello = programs.compiled("hello", programs.MUSL)
    terms.show("images")
    found.figures.append(_image(hello))
    programs.timed(programs.in_vm(hello))  # bytecode is made now, if it was not
    python = [programs.interpreter(), "-c", PYTHON]
    for name, words, target in (
        ("static hello", [hello, "stay"], PRIVATE_KIB),
        ("Python's hello", python, None),
    ):
        terms.show(name)
        vm, plain = _one(words)
        private = _figure(f"{name}: VMM and guest, private", [vm[0]], [plain[0]])
        if target:
            headline = "hello in a VM: VMM and guest, private"
            more = {"target": target, "absolute": True, "headline": headline}
            private = Figure(**{**vars(private), **more})
        found.figures.append(private)
        found.figures.append(_figure(f"{name}: VMM and guest, proportional", [vm[1]], [plain[1]]))
    vms = terms.count(VMS, 20)
    terms.show(f"{vms} VMs")
    with _many(hello, vms) as alive:
        helpers = [pid for pid in children(os.getpid()) if len(children(pid)) >= vms]
        if alive != vms or len(helpers) != 1:
            raise RuntimeError(f"{alive} of {vms} VMs live")
        each = [sizes(pid) for pid in children(helpers[0])[:vms]]  # the last one waits
    note = f"all {sum(pss for _, pss in each) >> 10} MiB, proportional; started by pyrovm.run"
    for index_, what in enumerate(("private", "proportional")):
        figure = _figure(f"{vms} VMs alive: each, {what}", [pair[index_] for pair in each])
        headline = "" if index_ else f"each of {vms} such VMs, private"
        more = {"note": note if index_ else "", "headline": headline}
        found.figures.append(Figure(**{**vars(figure), **more}))
    return found
