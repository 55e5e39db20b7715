"""How long does a guest stand still for its snapshot, and what does a restored page cost?

Natively, of memory alone: a tenth of it was touched, in places of 256 KiB (the first touch of every
place counts). Written are full snapshots and diffs of 1 % of the pages, scattered, into the cache
folder's file system, until the guest could go on: the disk is waited for afterwards. A restore maps
the file. A page is read at a random place of the restored memory: from the page cache, and from
``pyrovm snapshot serve``, which brings 64 KiB with it.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from pyrovm.bench.figures import Answer, Curve, Figure, Sample
from pyrovm.bench.terms import Terms
from pyrovm.guest import cache
from pyrovm.host import facts, mapping
from pyrovm.host.mapping import Mapping
from pyrovm.snapshot import memory, pages, uffd
from pyrovm.snapshot.layout import Layout
from pyrovm.snapshot.memory import Source

QUESTION = "snapshots"
MIB = 1 << 20
SIZES_MIB, SIZES_QUICK_MIB = (128, 256, 512, 1024, 2048), (128, 256)
PLACE = 256 << 10  # bytes
TOUCHED, CHANGED = 10, 100  # every how-many-th place, page
ROUNDS, RESTORES = 9, 101
TOUCHES = 300
AROUND = 64 << 10  # bytes that the handler brings at once
SEED = 1
GROWTH = 1.5  # of a restore, from the smallest guest to the largest
SECOND = 1000.0  # ms

T = TypeVar("T")


def answer(terms: Terms) -> Answer:
    """Writing and mapping by size, then pages."""
    found = Answer()
    sizes = SIZES_QUICK_MIB if terms.quick else SIZES_MIB
    times: dict[str, dict[int, list[float]]] = {"full": {}, "diff": {}, "restore": {}}
    with tempfile.TemporaryDirectory(dir=cache.folder("bench")) as folder:
        for mib in sizes:
            for what, values in _written(terms, Path(folder), mib, 0.6 / len(sizes)).items():
                times[what][mib] = values
        for _ in terms.rounds(RESTORES, "restores", share=0.1):
            for mib in sizes:  # by turns: they are compared
                do = partial(_restored, str(Path(folder, f"full-{mib}")), Layout([(0, mib * MIB)]))
                times["restore"].setdefault(mib, []).append(_timed(do, Mapping.close))
        _pages(terms, Path(folder), found)
    largest, smallest = max(sizes), min(sizes)
    for what, text in (
        ("full", "full snapshot, until the guest could go on"),
        ("diff", "diff of 1 % of the pages, until the guest could go on"),
    ):
        for mib in (smallest, largest):
            name = f"guest of {mib} MiB, a tenth touched: {text}"
            found.figures.append(Figure(QUESTION, name, "ms", Sample.of(times[what][mib])))
    found.figures.append(
        Figure(
            QUESTION,
            f"memory file of {largest} MiB mapped, beside {smallest} MiB",
            "ms",
            Sample.of(times["restore"][largest]),
            Sample.of(times["restore"][smallest]),
            f"pyrovm with {smallest} MiB",
            target=GROWTH,
        )
    )
    lines = {
        text: [(float(mib), Sample.of(values).median) for mib, values in times[what].items()]
        for what, text in (("full", "full"), ("diff", "diff of 1 %"), ("restore", "mapping"))
    }
    title = "Snapshot of a guest of which a tenth was touched"
    found.curves.append(Curve(QUESTION, "snapshots", title, "guest memory, MiB", "ms", lines))
    return found


def _written(terms: Terms, folder: Path, mib: int, share: float) -> dict[str, list[float]]:
    size = mib * MIB
    chance = random.Random(SEED)
    guest = mapping.anonymous(size)
    _touch(guest, chance)
    sources = [Source(guest.view, guest.address, 0)]
    count = size // pages.PAGE
    dirty = [pages.of_numbers(chance.sample(range(count), count // CHANGED))]
    full, diff = str(folder / f"full-{mib}"), str(folder / f"diff-{mib}")
    memory.prepare_full(full, size, sources).publish()
    found: dict[str, list[float]] = {"full": [], "diff": []}
    for _ in terms.rounds(ROUNDS, f"{mib} MiB", share=share):
        found["full"].append(
            _timed(lambda: memory.prepare_full(full, size, sources), lambda made: made.discard())
        )
        found["diff"].append(
            _timed(
                lambda: memory.prepare_diff(diff, size, sources, dirty),
                lambda made: made.discard(),
            )
        )
    guest.close()
    return found


def _touch(guest: Mapping, chance: random.Random) -> None:
    places = range(0, guest.size, PLACE)
    for place in chance.sample(places, len(places) // TOUCHED):
        guest.view[place : place + PLACE] = b"\1" * PLACE


def _timed(do: Callable[[], T], undo: Callable[[T], object]) -> float:
    begin = time.perf_counter()
    made = do()
    took = time.perf_counter() - begin
    undo(made)
    return took * SECOND


def _restored(path: str, layout: Layout) -> Mapping:
    fd = memory.open_file(path, layout)
    try:
        return memory.map_range(fd, layout.ranges[0])
    finally:
        os.close(fd)


def _pages(terms: Terms, folder: Path, found: Answer) -> None:
    size = SIZES_MIB[0] * MIB
    path = folder / "pages"
    path.write_bytes(os.urandom(size))
    layout = Layout([(0, size)])
    offsets = random.Random(SEED).sample(range(0, size, AROUND), TOUCHES)
    cached: list[float] = []
    for _ in terms.rounds(ROUNDS, "pages of the page cache", share=0.05):
        each = _restored(str(path), layout)
        cached += _touches(each, offsets)
        each.close()
    served: list[float] = []
    if facts.userfaultfd() != facts.OK:
        found.skipped.append("pages from a page-fault handler: no userfaultfd for this user")
    else:
        with _handler(path) as socket:
            for _ in terms.rounds(ROUNDS, "pages from a page-fault handler", share=0.1):
                mappings, handler = uffd.restore(socket, layout)
                served += _touches(mappings[0], offsets)
                mappings[0].close()
                handler.close()
    for text, values in (("page cache", cached), ("page-fault handler, 64 KiB", served)):
        if values:
            name = f"first touch of a restored page, from the {text}"
            found.figures.append(Figure(QUESTION, name, "us", Sample.of(values)))


def _touches(each: Mapping, offsets: list[int]) -> list[float]:
    """Microseconds for each."""
    now, view, found = time.perf_counter, each.view, []
    for offset in offsets:
        begin = now()
        view[offset]
        found.append((now() - begin) * 1e6)
    return found


@contextlib.contextmanager
def _handler(path: Path) -> Iterator[str]:
    socket = f"{path}.sock"
    words = ["-m", "pyrovm.cli.main", "snapshot", "serve", "--no-working-set", str(path), socket]
    with subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            if "is served at" not in (first := process.stderr.readline()):
                raise RuntimeError(f"the page-fault handler does not serve: {first}")
            yield socket
        finally:
            process.terminate()
            process.communicate()
